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
from keras_dtkd.losses.reduction import has_positions
from keras_dtkd.teachers.sample_ids import model_inputs, split_sample_ids
from keras_dtkd.training import loss_logging
from keras_dtkd.training.run import compute_global_means
from keras_dtkd.training.task_loss import sum_losses, weights_by_losses


def find_output_embedding(model):
    """The matrix that a KerasHub `CausalLM` makes logits with, `(vocabulary, width)`.

    `None` for a model that does not have it in a `ReversibleEmbedding`.
    """
    layer: Any = getattr(getattr(model, "backbone", None), "token_embedding", None)
    if not hasattr(layer, "tie_weights"):
        return None
    if layer.tie_weights:
        return ops.convert_to_tensor(layer.embeddings)
    return ops.transpose(ops.convert_to_tensor(layer.reverse_embeddings))


def run_teacher(distiller, teacher, x):
    """The teacher's outputs for a batch, or its hidden states."""
    x, sample_ids = split_sample_ids(x)
    if distiller.chunk_size is None:
        return teacher.outputs(x, sample_ids)
    return teacher.model.backbone(x, training=False)


def run_student(distiller, x, training):
    """The student's outputs for a batch, or its hidden states."""
    x = model_inputs(x)
    if distiller.chunk_size is None:
        return distiller.student(x, training=training)
    return distiller.student.backbone(x, training=training)


def compute_loss(distiller, inputs, targets, student, sample_weight, log):
    """The total of a training step, from hidden states.

    `inputs`, `targets` and `student` are those of a `StepBuilder`; `log(name, mean)` is
    called for each loss.
    """
    loss_logging.update_rollout(distiller, targets)
    hidden, teacher_hidden = student.outputs, targets.teacher.outputs
    teacher = distiller.teacher_reference.teacher.model
    tables = find_output_embedding(distiller.student), find_output_embedding(teacher)
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
        weights, factor = _token_weights(hidden, weight, find_means)
        if distiller.compile_origin.source != "default":
            factor = _compiled_factor(distiller.loss, weights)
        options = labels, weights, distiller.chunk_size
        task = factor * chunked_cross_entropy(hidden, tables[0], *options)
        log("task_loss", task)
        total = total + distiller.hyperparameter("task_weight") * task
    session, batch_size = distiller.backend_session, ops.shape(hidden)[0]
    return backend.weight_loss_by_batch_share(session, total, batch_size)


def _compiled_factor(loss, weights):
    """From the mean over valid tokens to that of a loss of the user's."""
    if loss.get_config()["reduction"] == "mean_with_sample_weight":
        return 1.0 / backend.replicas()
    return ops.mean(weights) / backend.replicas()


def _token_weights(hidden, sample_weight, find_means):
    """The weight of each token, and the factor of the weighted mean.

    The product is `losses.reduction.reduce` of the same weights.
    """
    ones = ops.ones_like(hidden[..., 0], dtype="float32")
    if sample_weight is None:
        return ones, 1.0 / backend.replicas()
    sample_weight = ops.convert_to_tensor(sample_weight)
    weights = row_weights(hidden, sample_weight)
    mean = ops.sum(weights) / ops.maximum(ops.cast(ops.size(weights), "float32"), 1.0)
    common = find_means([mean])[0] if has_positions(sample_weight) else 1.0
    factor = mean / ops.where(common > 0, common, 1.0)
    return weights, factor / backend.replicas()
