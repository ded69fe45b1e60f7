"""Accuracy under attack, after each epoch."""

from typing import Any

import keras

from keras_dtkd.attacks import pgd
from keras_dtkd.attacks.robust_accuracy import RobustnessEvaluation, resolve_attack
from keras_dtkd.core.compiled_loss import compiled_loss


class RobustAccuracy(keras.callbacks.Callback):
    """Attacks the model, within a Distiller the student, at the end of epochs.

    The share of samples that stand goes into the epoch's logs, so into the progress bar
    and the history. Callbacks that read logs (`CSVLogger`, `EarlyStopping`,
    `ModelCheckpoint`) must come after this one in the list.

    The attack is compiled once a `fit`. An epoch without a measurement has no such log,
    as with `validation_freq`; the first of a `fit` has one, since `CSVLogger` takes its
    columns from there, and so has the last.

    Args:
        x: Inputs, an array. All of them are attacked: a few hundred show the course.
        y: Their labels.
        epsilon: Radius of the ball, in the units of `x`.
        every: Epochs from one measurement to the next.
        name: Of the log.
        attack: As of `keras_dtkd.attacks.robust_accuracy`.
        output: Name or index of the output to attack. The Distiller's by default.
        from_logits: Whether outputs are logits. As the Distiller has it by default, and
            `"auto"` elsewhere.
        batch_size: Samples at once.
        verbose: 1 shows the attack's progress.
        **options: Further arguments of the attack: `steps=20, restarts=5`. One `seed`
            gives each epoch the same random starts.

    Raises:
        TypeError: At the beginning of `fit`: an option that the attack does not take.
        ValueError: `every` is below 1, or there is no such attack; at the beginning of
            `fit`: whatever `robust_accuracy` refuses.

    Example:

    >>> robust = RobustAccuracy(x_val[:500], y_val[:500], epsilon=8 / 255, steps=10)
    >>> distiller.fit(x, y, epochs=60, callbacks=[robust, CSVLogger("log.csv")])
    """

    def __init__(
        self,
        x,
        y,
        epsilon,
        every=1,
        name="val_robust_accuracy",
        attack=pgd,
        output=None,
        from_logits=None,
        batch_size=128,
        verbose=0,
        **options,
    ):
        super().__init__()
        if every < 1:
            raise ValueError(
                f"`RobustAccuracy`: `every` must be at least 1 epoch. Received: "
                f"every={every}."
            )
        self.data = x, y, epsilon
        self.every = every
        self.name = name
        self.attack = resolve_attack("RobustAccuracy", attack)
        self.how = output, from_logits, batch_size
        self.verbose = verbose
        self.options = options
        self._trial: Any = None
        self._first = None

    def on_train_begin(self, logs=None):
        """Finds the model, and what does not fit, before the first step."""
        self._first = None
        student = getattr(self.model, "student", None)
        model = student if isinstance(student, keras.Model) else self.model
        output, from_logits, batch_size = self.how
        if output is None:
            output = getattr(self.model, "distilled_output", None)
        if from_logits is None:
            from_logits = getattr(self.model, "from_logits", "auto")
        self._trial = RobustnessEvaluation(
            "RobustAccuracy",
            model,
            self.data,
            (output, from_logits, batch_size),
            self.attack,
            self.options,
            compiled_loss(self.model),
        )

    def on_epoch_end(self, epoch, logs=None):
        """Attacks, and logs what stood."""
        if self._first is None:
            self._first = epoch
        due = (epoch - self._first) % self.every == 0
        if logs is None or not (due or epoch + 1 == self.params["epochs"]):
            return
        if self.verbose:
            # Below the epoch's bar, not in it.
            print(f"\n{self.name}:")
        logs[self.name] = self._trial.run(self.verbose).robust

    def on_train_end(self, logs=None):
        """Lets go of what was compiled."""
        self._trial = None
