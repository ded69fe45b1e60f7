"""Robust accuracy, logged at the end of epochs."""

from typing import Any

import keras

from keras_dtkd.attacks import pgd
from keras_dtkd.attacks.robust_accuracy import RobustnessEvaluation, resolve_attack
from keras_dtkd.core.arguments import check_positive_int
from keras_dtkd.core.compiled_loss import compiled_loss


class RobustAccuracy(keras.callbacks.Callback):
    """Logs the accuracy of a model under attack at the end of epochs.

    For a Distiller, the student is attacked. The number enters the logs of the epoch,
    the progress bar and the history. Callbacks that read logs (`CSVLogger`,
    `EarlyStopping`, `ModelCheckpoint`) must come after this callback in the list.

    The attack is compiled once per `fit`. The first epoch of a `fit` is always
    evaluated, because `CSVLogger` takes its columns from it, and so is the last.

    Args:
        x: Inputs, an array; a few hundred show the trend.
        y: Their labels.
        epsilon: Radius of the ball, in the units of `x`.
        frequency: Epochs between two evaluations.
        name: Name of the log.
        attack: As in `keras_dtkd.attacks.robust_accuracy`.
        output: Name or index of the output to attack. The Distiller's by default.
        from_logits: Whether outputs are logits. The Distiller's by default, and
            `"auto"` for other models.
        batch_size: Samples in a batch.
        verbose: 1 shows the progress of the attack.
        **options: Further arguments of the attack: `steps=20, restarts=5`. A `seed`
            gives every epoch the same random starts.

    Raises:
        TypeError: At the beginning of `fit`: the attack has no such option.
        ValueError: `frequency` is below 1, or the attack is unknown; at the beginning
            of `fit`: any error of `robust_accuracy`.

    Example:

    >>> robust = RobustAccuracy(x_val[:500], y_val[:500], epsilon=8 / 255, steps=10)
    >>> distiller.fit(x, y, epochs=60, callbacks=[robust, CSVLogger("log.csv")])
    """

    def __init__(
        self,
        x,
        y,
        epsilon,
        frequency=1,
        name="val_robust_accuracy",
        attack=pgd,
        output=None,
        from_logits=None,
        batch_size=128,
        verbose=0,
        **options,
    ):
        super().__init__()
        self.attack_data = x, y, epsilon
        self.frequency = check_positive_int("RobustAccuracy", "frequency", frequency)
        self.name = name
        self.attack = resolve_attack("RobustAccuracy", attack)
        self.output_options = output, from_logits, batch_size
        self.verbose, self.options = verbose, options
        self._evaluation: Any = None
        self._first_epoch = None

    def on_train_begin(self, logs=None):
        self._first_epoch = None
        student = getattr(self.model, "student", None)
        model = student if isinstance(student, keras.Model) else self.model
        output, from_logits, batch_size = self.output_options
        if output is None:
            output = getattr(self.model, "distilled_output", None)
        if from_logits is None:
            from_logits = getattr(self.model, "from_logits", "auto")
        self._evaluation = RobustnessEvaluation(
            "RobustAccuracy",
            model,
            self.attack_data,
            self.attack,
            self.options,
            (output, from_logits, batch_size),
            self.verbose,
            compiled_loss(self.model),
        )

    def on_epoch_end(self, epoch, logs=None):
        if self._first_epoch is None:
            self._first_epoch = epoch
        is_due = (epoch - self._first_epoch) % self.frequency == 0
        is_last = epoch + 1 == self.params["epochs"]
        if logs is None or not (is_due or is_last):
            return
        if self.verbose:
            # On a new line: the progress bar of the epoch is still open.
            print(f"\n{self.name}:")
        logs[self.name] = self._evaluation.evaluate().robust_accuracy

    def on_train_end(self, logs=None):
        # Releases the compiled attack.
        self._evaluation = None
