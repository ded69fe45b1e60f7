"""Whether the student of a recipe gives logits or probabilities."""

import keras
import numpy as np
from keras import ops

from keras_dtkd import backend
from keras_dtkd.core import logits
from keras_dtkd.core.logits import OutputKind

# Random samples, and the length of an axis that is left open.
NUM_SAMPLES, SIZE = 4, 32


def gives_logits(student):
    """Whether a student gives logits, and not the probabilities of a softmax.

    Its layers decide or, where they do not show it, its outputs for random inputs of
    the shape that it was built for.

    Raises:
        ValueError: It ends with a sigmoid, as its layers show, or must run and is not
            built.
    """
    kind = logits.infer_output_kind(student)
    if kind is None:
        values = _run_on_random_inputs(student)
        is_softmax = logits.look_like_probabilities(values)
        kind = OutputKind.SOFTMAX if is_softmax else OutputKind.LOGITS
    if kind == OutputKind.SIGMOID:
        raise ValueError(
            "`Recipe`: the student ends with a sigmoid, which treats each class "
            "independently, but recipes are for one class per sample. Give a student "
            "that ends with logits or a softmax."
        )
    return kind != OutputKind.SOFTMAX


def _run_on_random_inputs(student):
    """Outputs in inference mode, float32 NumPy."""
    rng = np.random.default_rng(0)

    def draw(shape):
        # In [0, 1): images, or token 0. A graph may have a fixed number of samples.
        count, *sizes = shape
        return rng.random(
            [count or NUM_SAMPLES, *(s or SIZE for s in sizes)], "float32"
        )

    inputs = getattr(student, "inputs", None)
    if inputs:
        # A `Sequential` has no `input`.
        x = keras.tree.map_structure(
            lambda tensor: ops.cast(draw(tensor.shape), tensor.dtype),
            getattr(student, "input", inputs[0]),
        )
    else:
        shapes = (student.get_build_config() or {}).get("input_shape")
        if shapes is None:
            raise ValueError(
                "`Recipe`: whether the student gives logits or probabilities is not "
                "known from its layers, and it is not built, so that it cannot be "
                "tried. Call it once on a batch."
            )
        # Not as many samples as in the call that built it.
        x = keras.tree.map_shape_structure(lambda s: draw((None, *s[1:])), shapes)
    # Its own states stay as they are.
    with backend.no_grad(), keras.StatelessScope():
        outputs = student(x, training=False)
    return ops.convert_to_numpy(ops.cast(outputs, "float32"))
