"""Builds the weights of losses that depend on the models."""

import dataclasses

import keras
from keras import ops

from keras_dtkd import backend
from keras_dtkd.core import arrays
from keras_dtkd.core.issue import describe_error
from keras_dtkd.core.layer_tree import iter_layers
from keras_dtkd.core.output_kind import Traced, compute_output_spec
from keras_dtkd.teachers.sample_ids import model_inputs
from keras_dtkd.training import task_loss
from keras_dtkd.training.forward import build_steps
from keras_dtkd.training.run import strategy_of
from keras_dtkd.training.step import Step

# What of a `Step` is tensors. The models are not in a file.
TENSOR_FIELDS = [
    field.name
    for field in dataclasses.fields(Step)
    if field.name not in ("student", "teacher", "training")
]


def build_losses(distiller, sample):
    """Builds the losses' weights, outside of a step, from the first batch of a sample.

    A compiled step makes no weights, and the optimizer must know them all.
    """
    losses = distiller.distillation_losses
    unbuilt = {n: loss for n, loss in losses.items() if _needs_building(loss)}
    if not unbuilt:
        return
    x, y = first_batch(sample)
    with backend.building_scope(strategy_of(distiller)), backend.no_grad():
        steps = build_steps(distiller, x, y)
        for loss in unbuilt.values():
            step, *_ = steps.of(loss)
            _build(loss, step)
            loss.step_spec = _symbolic({n: getattr(step, n) for n in TENSOR_FIELDS})


def build_losses_from_specs(distiller, specs):
    """Builds the weights of a loaded Distiller's losses as before they were saved.

    `specs` has, by the loss's name, what `build_losses` left as `loss.step_spec`.
    """
    with backend.no_grad():
        for name, spec in specs.items():
            fields = keras.tree.map_structure(
                lambda t: None if t is None else ops.zeros(t.shape, t.dtype), spec
            )
            loss = distiller.distillation_losses[name]
            _build(loss, Step(**fields, student=distiller.student, training=False))
            loss.step_spec = spec


def build_task_loss(distiller, sample):
    """Traces the loss on the labels and the metrics, as Keras's `fit` does.

    What they make when first called is then there before the step is compiled:
    TensorFlow traces a step again whose first trace made variables.

    Raises:
        ValueError: Those of the student's own class fail, or a loss was given to the
            Distiller as well.
    """
    student = distiller.student
    names = ("compute_loss", "compute_metrics")
    has_own = any(task_loss.overrides(student, name) for name in names)
    is_built = all(getattr(metric, "built", True) for metric in distiller.metrics)
    if sample.y is None or (is_built and not has_own):
        return
    if distiller.loss is not None and task_loss.is_own(student):
        raise ValueError(
            f"`Distiller`: the student's class `{type(student).__name__}` computes its "
            "own loss (`compute_loss`), and the Distiller was compiled with another "
            "one. Compile the student, and leave `loss` out of the Distiller's "
            "`compile`."
        )

    def compute(x, y, outputs):
        if distiller.has_task_loss:
            distiller.compute_task_loss(x, y, outputs, training=False)
        return distiller.compute_metrics(x, y, outputs)

    x, y = arrays.take_rows((sample.x, sample.y), slice(sample.batch_size))
    try:
        with backend.building_scope(strategy_of(distiller)):
            outputs = compute_output_spec(student, model_inputs(x))
            x, y = _symbolic(x), _symbolic(y)
            Traced(compute).compute_output_spec(x, y, outputs)
    except Exception as error:
        if not has_own:
            raise
        raise ValueError(
            f"`Distiller`: the loss or the metrics of the student's class "
            f"`{type(student).__name__}` fail on the first batch, before any training. "
            f"Do they fit the labels? The error: {describe_error(error)}"
        ) from error


def _symbolic(values):
    """The tensors or arrays as `keras.KerasTensor`s, which Keras serializes."""

    def convert(value):
        if value is None:
            return None
        dtype = keras.backend.standardize_dtype(value.dtype)
        return keras.KerasTensor(tuple(value.shape), dtype)

    return keras.tree.map_structure(convert, values)


def first_batch(sample):
    """The first batch of a sample, as tensors."""
    batch = slice(sample.batch_size)
    return arrays.to_tensors(arrays.take_rows((sample.x, sample.y), batch))


def _needs_building(loss):
    return loss.step_spec is None and (
        loss.builds_from_step or not all(layer.built for layer in iter_layers(loss))
    )


def _build(loss, step):
    loss.build_from_step(step)
    if not all(layer.built for layer in iter_layers(loss)):
        # Weights that it makes when it is first called.
        loss.compute_with_temperatures(step)
