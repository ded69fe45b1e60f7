"""Whether models and data can tell what losses on input gradients ask."""

import keras

from keras_dtkd import rows
from keras_dtkd.input_gradients import wanting


def input_gradients(distiller, sample):
    """The losses ask for the same, and it can be had.

    Args:
        distiller: The Distiller.
        sample: The `keras_dtkd.data.Sample`.

    Raises:
        ValueError: They do not, or it cannot.
    """
    losses = wanting(distiller.distillation_losses)
    if not losses:
        return
    kinds = {(o.input_gradient, o.input_gradient_labels) for o in losses.values()}
    if len(kinds) > 1:
        asked = " and ".join(f"{how!r} of {whose!r} labels" for how, whose in kinds)
        raise ValueError(
            f"`Distiller`: {', '.join(f'`{name}`' for name in losses)} ask for "
            f"different input gradients, {asked}. One pass gives one kind: give all of "
            "them the same `estimator` and `labels`."
        )
    for name, loss in losses.items():
        _can_be_asked(name, loss, distiller.held.teacher)
    name = next(iter(losses))
    for leaf in keras.tree.flatten(rows.inputs(sample.x)):
        if not keras.backend.is_float_dtype(str(leaf.dtype)):
            raise ValueError(
                f"`Distiller`: `{name}` takes gradients with respect to the inputs, "
                f"and some of them are {leaf.dtype}. Cast pixels, "
                "`x.astype('float32')`; tokens and classes have no gradient."
            )


def one_gradient_a_sample(distiller, shape):
    """A sample has one cross-entropy, if a loss asks for its gradient.

    Args:
        distiller: The Distiller.
        shape: Of the student's distilled output.

    Raises:
        ValueError: There are several positions in each.
    """
    for name in wanting(distiller.distillation_losses):
        if len(shape) != 2:
            raise ValueError(
                f"`Distiller`: `{name}` compares one gradient a sample, and outputs of "
                f"shape {shape} have several positions in each. Give models with "
                "outputs `(batch, classes)`, or take another loss."
            )


def _can_be_asked(name, loss, teacher):
    if loss.view is not None:
        raise ValueError(
            f"`Distiller`: `{name}` takes input gradients on the batch itself, and not "
            f"on the view {loss.view!r}. Leave `view` out."
        )
    if loss.teacher_input_gradient and rows.needed(teacher):
        raise ValueError(
            f"`Distiller`: `{name}` needs the teacher's input gradient, and its "
            "outputs are stored. Give the teacher itself."
        )
