"""Evaluation of the student after every few epochs."""

import keras

from keras_dtkd.core.arguments import check_positive_int
from keras_dtkd.core.layer_tree import find_student


class PeriodicEvaluation(keras.callbacks.Callback):
    """Base of callbacks that evaluate after the first epoch, every few, and the last.

    As with Keras's `validation_freq`, the logs of other epochs lack the results. A run
    that `Resume` continues is evaluated in the epochs of an unbroken one.

    Args:
        frequency: Epochs between two evaluations.
        title: What is evaluated, printed with `verbose`.
        verbose: Whether an evaluation shows its progress.

    Attributes:
        first_epoch: The first epoch of the run, from which `frequency` counts. Public,
            so that `Resume` restores it.
    """

    def __init__(self, frequency, title, verbose):
        super().__init__()
        self.frequency = check_positive_int(type(self).__name__, "frequency", frequency)
        self.title, self.verbose = title, verbose
        self.first_epoch = None

    @property
    def evaluated_model(self):
        """A Distiller's student; any other model itself."""
        return find_student(self.model)

    def add_results(self, logs):
        """Evaluates, and adds the results to the logs of the epoch."""
        raise NotImplementedError

    def on_train_begin(self, logs=None):
        self.first_epoch = None

    def on_epoch_end(self, epoch, logs=None):
        if self.first_epoch is None:
            self.first_epoch = epoch
        is_due = (epoch - self.first_epoch) % self.frequency == 0
        is_last = epoch + 1 == self.params["epochs"]
        if logs is None or not (is_due or is_last):
            return
        if self.verbose:
            # On a new line: the progress bar of the epoch is still open.
            print(f"\n{self.title}:")
        self.add_results(logs)
