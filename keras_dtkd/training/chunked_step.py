"""Training on last hidden states, where all logits of a vocabulary are too many.

With `Distiller(chunk_size=...)` the outputs that travel through a step are hidden
states, and the losses are computed from them and the output embeddings.
"""

import functools
from typing import Any

from keras import ops

from keras_dtkd import backend
from keras_dtkd.core.arrays import drop_placeholder
from keras_dtkd.core.masking import row_weights
from keras_dtkd.functional.chunked import chunked_cross_entropy, chunked_divergence
from keras_dtkd.losses.reduction import has_positions, normalize_positions
from keras_dtkd.teachers.inputs import read_batch
from keras_dtkd.teachers.sample_ids import model_inputs
from keras_dtkd.training import loss_logging
from keras_dtkd.training.run import compute_global_means
from keras_dtkd.training.task_loss import sum_losses, weights_by_losses


def find_output_embedding(model, allow_int8=False):
    """The matrix that a KerasHub `CausalLM` makes logits with, `(vocabulary, width)`.

    `None` for a model that does not have it in a `ReversibleEmbedding`, or where it is
    quantized or caps the logits (Gemma 2). With `allow_int8`, one in int8 is
    dequantized; it has no gradient.
    """
    layer: Any = getattr(getattr(model, "backbone", None), "token_embedding", None)
    if not hasattr(layer, "tie_weights"):
        return None
    # Small logits are hardly changed by a cap: no measurement would find it.
    if getattr(layer, "logit_soft_cap", None) is not None:
        return None
    is_tied = layer.tie_weights
    table = layer.embeddings if is_tied else ops.transpose(layer.reverse_embeddings)
    if layer.quantization_mode is None:
        return ops.convert_to_tensor(table)
    if layer.quantization_mode != "int8" or not allow_int8:
        return None
    scale = layer.embeddings_scale if is_tied else layer.reverse_embeddings_scale
    return ops.cast(table, layer.compute_dtype) / scale[:, None]


def compute_hidden(model, x, training=False):
    """Last hidden states `(batch, time, width)`, as the output embedding takes them."""
    hidden = model.backbone(x, training=training)
    layer = model.backbone.token_embedding
    if layer.quantization_mode is None or layer.inputs_quantizer is None:
        return hidden
    # A quantized layer rounds its inputs too.
    rounded, scale = layer.inputs_quantizer(hidden)
    return ops.cast(rounded, hidden.dtype) / scale


def run_teacher(distiller, teacher, x):
    """The teacher's outputs for a batch, or its hidden states and output embedding."""
    x, sample_ids = read_batch(teacher, x)
    if distiller.chunk_size is None:
        return teacher.outputs(x, sample_ids)
    # The embedding too: here the values of the teacher's variables are arguments of
    # JAX's compiled step, and in its loss they would be constants.
    table = find_output_embedding(teacher.model, allow_int8=True)
    return compute_hidden(teacher.model, x), table


def run_student(distiller, x, training):
    """The student's outputs for a batch, or its hidden states."""
    x = model_inputs(x)
    if distiller.chunk_size is None:
        return distiller.student(x, training=training)
    return compute_hidden(distiller.student, x, training)


def compute_loss(distiller, inputs, targets, student, sample_weight, log):
    """The total of a training step, from hidden states.

    `inputs`, `targets` and `student` are those of a `StepBuilder`; `log(name, mean)` is
    called for each loss.
    """
    loss_logging.update_rollout(distiller, targets)
    hidden, (teacher_hidden, teacher_table) = student.outputs, targets.teacher.outputs
    tables = find_output_embedding(distiller.student), teacher_table
    size = min(table.shape[0] for table in tables)
    for spec in distiller.output_specs.get():
        size = spec.num_classes or size
    table, teacher_table = (table[:size] for table in tables)
    find_means = functools.partial(compute_global_means, distiller, hidden)
    weights, factor = _token_weights(hidden, sample_weight, find_means)
    total = sum_losses(distiller.losses)
    for name, loss in distiller.distillation_losses.items():
        options = loss.chunked_arguments()
        scale = options.pop("weight") * factor
        mean = scale * chunked_divergence(
            hidden,
            table,
            teacher_hidden,
            teacher_table,
            weights,
            chunk_size=distiller.chunk_size,
            **options,
        )
        log(name, mean)
        total = total + loss.effective_weight * mean
    labels = drop_placeholder(targets.labels)
    if labels is not None and distiller.has_task_loss:
        # All classes of the student, as its compiled loss has them.
        weight = weights_by_losses(distiller, inputs.x, labels, sample_weight)
        is_default = distiller.compile_origin.source == "default"
        options = (find_means,) if is_default else ()
        weights, factor = _token_weights(hidden, weight, *options)
        reduction = distiller.loss.get_config()["reduction"]
        if not is_default and reduction == "mean_with_sample_weight":
            factor = 1.0 / backend.replicas()
        options = labels, weights, distiller.chunk_size
        task = factor * chunked_cross_entropy(hidden, tables[0], *options)
        log("task_loss", task)
        total = total + distiller.hyperparameter("task_weight") * task
    session, batch_size = distiller.backend_session, ops.shape(hidden)[0]
    return backend.weight_loss_by_batch_share(session, total, batch_size)


def _token_weights(hidden, sample_weight, find_means=None):
    """The weight of each token, and the factor of the weighted mean.

    The product is `losses.reduction.reduce` of the same weights; without `find_means`,
    Keras's mean over all tokens.
    """
    if sample_weight is None:
        ones = ops.ones_like(hidden[..., 0], dtype="float32")
        return ones, 1.0 / backend.replicas()
    sample_weight = ops.convert_to_tensor(sample_weight)
    weights = row_weights(hidden, sample_weight)
    if find_means is not None and has_positions(sample_weight):
        weights = normalize_positions(weights, None, find_means)
    count = ops.maximum(ops.cast(ops.size(weights), "float32"), 1.0)
    return weights, ops.sum(weights) / count / backend.replicas()
