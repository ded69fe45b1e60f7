"""What a teacher's outputs are, where no Distiller finds it out."""

import contextlib

import keras
from keras import ops

from keras_dtkd.core.compiled_loss import compiled_loss, select_for_output
from keras_dtkd.core.logits import OutputKind, find_name_and_index, select_output
from keras_dtkd.core.output_kind import resolve_output_kind, symbolic_output
from keras_dtkd.teachers.ensemble import Ensemble
from keras_dtkd.teachers.forward import compile_teacher


def infer_output_kind(teacher, x, output):
    """The `OutputKind` of one output, as a Distiller infers it; or `None`.

    From the layers, the loss that the model was compiled with and, where these do not
    show it, the values for a batch `x` of tensors. `None` of a teacher that is no model
    and states none. Sets those of an ensemble's members. A `ValueError` with the known
    names where there is no such output.
    """
    if isinstance(teacher, Ensemble):
        kinds = [infer_output_kind(member, x, output) for member in teacher.members]
        first = teacher.members[0]
        outputs = _graph_outputs(first.model) or compile_teacher(first)(x)
        teacher.set_output_kinds(
            [kind or OutputKind.LOGITS for kind in kinds],
            multi_output=len(keras.tree.flatten(outputs)) > 1,
        )
        return teacher.output_kind
    model, names = teacher.model, teacher.output_names
    if teacher.output_kind is not None or model is None:
        return teacher.output_kind

    def evaluate():
        outputs = compile_teacher(teacher)(x)
        with naming_outputs(output):
            values = select_output(outputs, output, names)
        return ops.convert_to_numpy(ops.cast(values, "float32"))

    with naming_outputs(output):
        symbolic = symbolic_output(model, output, names)
    if symbolic is None and len(_graph_outputs(model)) == 1:
        # A `Sequential` has no `output`.
        (symbolic,) = _graph_outputs(model)
    return resolve_output_kind(
        "store",
        "teacher",
        model,
        symbolic,
        "auto",
        select_for_output(compiled_loss(model), *find_name_and_index(output, names)),
        (evaluate() if symbolic is None else symbolic).shape[-1],
        evaluate,
    )


@contextlib.contextmanager
def naming_outputs(output):
    """A context in which an unknown output is a `ValueError` with those known."""
    try:
        yield
    except KeyError as error:
        known = ", ".join(repr(name) for name in error.args[0])
        raise ValueError(
            f"`store`: the teacher has several outputs. `output=` may be: {known}. "
            f"Received: output={output!r}."
        ) from None


def _graph_outputs(model):
    """The symbolic outputs of a model, empty where it has no graph."""
    return getattr(model, "outputs", None) or []
