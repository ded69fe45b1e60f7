"""Sees what the Distiller hands to a loss, and is that loss otherwise."""

from keras import ops

from keras_dtkd.losses.base import DistillationLoss


class _Seen:
    """Holds the latest step where no backend tracks it."""

    step = None


class Silent(DistillationLoss):
    """A loss that says nothing, for a `Witness` of the batch itself."""

    def compute(self, step):
        """Zeros."""
        return ops.zeros_like(step.student_logits[..., 0])


class Witness(DistillationLoss):
    """A loss that remembers the `Step` it was last given.

    So the doctor looks at what the Distiller's own machinery makes of a batch, and
    needs no other one.

    Args:
        loss: The loss to be seen at work. It is called as it is.
    """

    def __init__(self, loss):
        super().__init__(name=loss.name, view=loss.view)
        self.loss = loss
        self.student_layers = loss.student_layers
        self.teacher_layers = loss.teacher_layers
        self.needs_labels = loss.needs_labels
        self.multilabel = loss.multilabel
        self.input_gradient = loss.input_gradient
        self.input_gradient_labels = loss.input_gradient_labels
        self.teacher_input_gradient = loss.teacher_input_gradient
        self._seen = _Seen()

    def compute(self, step):
        """The loss's own values."""
        self._seen.step = step
        return self.loss.compute(step)

    def reduce(self, values, outputs=None, sample_weight=None):
        """The loss's own mean."""
        return self.loss.reduce(values, outputs, sample_weight)

    def get_temperatures(self):
        """The loss's own."""
        return self.loss.get_temperatures()

    def take_step(self):
        """The step of the latest call, once."""
        step, self._seen.step = self._seen.step, None
        return step
