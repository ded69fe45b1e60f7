"""Robust accuracy, logged at the end of epochs."""

from typing import Any

from keras_dtkd.attacks import pgd
from keras_dtkd.attacks.robust_accuracy import RobustnessEvaluation, resolve_attack
from keras_dtkd.callbacks.periodic_evaluation import PeriodicEvaluation
from keras_dtkd.core.compiled_loss import compiled_loss


class RobustAccuracy(PeriodicEvaluation):
    """Logs the accuracy of a model under attack at the end of epochs.

    For a Distiller, the student is attacked. The number enters the logs of the epoch,
    the progress bar and the history. Callbacks that read logs (`CSVLogger`,
    `EarlyStopping`, `ModelCheckpoint`) must come after this callback in the list.

    The attack is compiled once per `fit`. The first epoch of a `fit` is always
    evaluated, because `CSVLogger` takes its columns from it, and so is the last. Where
    `Resume` continues a run, the epochs are those of an unbroken one, and a `CSVLogger`
    that the run had keeps its columns.

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
        super().__init__(frequency, name, verbose)
        self.attack_data = x, y, epsilon
        self.name = name
        self.attack = resolve_attack("RobustAccuracy", attack)
        self.output_options = output, from_logits, batch_size
        self.options = options
        self._evaluation: Any = None

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        output, from_logits, batch_size = self.output_options
        if output is None:
            output = getattr(self.model, "distilled_output", None)
        if from_logits is None:
            from_logits = getattr(self.model, "from_logits", "auto")
        self._evaluation = RobustnessEvaluation(
            "RobustAccuracy",
            self.evaluated_model,
            self.attack_data,
            self.attack,
            self.options,
            (output, from_logits, batch_size),
            self.verbose,
            compiled_loss(self.model),
        )

    def add_results(self, logs):
        logs[self.name] = self._evaluation.evaluate().robust_accuracy

    def on_train_end(self, logs=None):
        # Releases the compiled attack.
        self._evaluation = None
