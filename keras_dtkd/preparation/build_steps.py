"""Steps outside of training."""

from keras_dtkd.training import forward


def build_steps(distiller, x, y=None, sample_weight=None):
    """A `StepBuilder` for one batch, outside of any training step."""
    inputs, targets, _ = forward.prepare_step(distiller, x, y)
    student = distiller(inputs, training=False)
    args = inputs, targets, student, sample_weight, False
    return forward.StepBuilder(distiller, *args)
