"""Prompts become the sequences that a training step is on."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_dtkd import backend
from keras_dtkd.rollouts.base import RolloutResult
from keras_dtkd.rollouts.decoders import model_inputs
from keras_dtkd.teachers import sample_ids
from keras_dtkd.teachers.forward import without_effect


def generate(distiller, rollout, prompts, targets, sample_weight=None):
    """Runs a rollout, without gradient or effect on either model.

    Args:
        distiller: The Distiller.
        rollout: The `Rollout`.
        prompts: The batch of prompts.
        targets: `TrainingTargets`.
        sample_weight: One weight a prompt, or `None`: relative to the others of the
            batch.

    Returns:
        `(x, targets, sample_weight)`: inputs of both models; the result, in `targets`;
        a weight of each token that follows, 0 for those of the prompts.
    """
    teacher = distiller.teacher_reference.teacher
    batch_size = ops.shape(prompts["token_ids"])[0]
    uniforms = rollout.draw_uniforms(batch_size, *backend.replica_index_and_count())

    models = distiller.student, teacher.model
    num_tokens = distiller.output_specs.get().student.num_classes
    # A teacher that draws random numbers draws the same ones here for every token: no
    # random state leaves the loop.
    result = without_effect(
        teacher,
        lambda: rollout(*models, prompts, uniforms, num_tokens),
        targets.teacher_variables,
        other_variables=[*distiller.student.variables, *rollout.variables],
    )
    x, weights = shift(distiller.student, result, sample_weight)
    labels = result.tokens if rollout.has_labels else None
    return x, targets._replace(labels=labels, rollout=result), weights


def find_max_length(distiller, prompts):
    """Sets the rollout's `max_length` where none was given; not for other data."""
    token_ids: Any = prompts.get("token_ids") if isinstance(prompts, dict) else None
    if np.ndim(token_ids) == 2:
        length = np.shape(token_ids)[1]
        distiller.rollout.find_max_length(distiller.student, length)


def student_inputs(distiller, x):
    """A batch as the student takes it; of prompts it takes no `response_mask`."""
    x = sample_ids.model_inputs(x)
    names = "token_ids", "padding_mask"
    is_prompts = isinstance(x, dict) and {*names} <= {*x}
    if distiller.rollout is None or not is_prompts:
        return x
    return model_inputs(distiller.student, *(x[name] for name in names))


def shift(student, result, sample_weight=None):
    """Inputs, and weights of the tokens that follow, both one position shorter.

    `result` is a `RolloutResult`.
    """
    x = model_inputs(student, result.token_ids[:, :-1], result.padding_mask[:, :-1])
    weights = ops.cast(result.generated[:, 1:], "float32")
    if sample_weight is not None:
        weights = weights * ops.reshape(ops.cast(sample_weight, "float32"), (-1, 1))
    return x, weights


def stand_in(distiller, sample):
    """A `data_peek.Sample` of prompts as a sample of sequences, without any rollout.

    Their tokens stand for those that will be generated.
    """
    rollout = distiller.rollout
    parts = rollout.split_responses(sample.x)
    token_ids = parts["token_ids"] + parts["responses"]
    mask = ops.logical_or(parts["padding_mask"], parts["response_mask"])
    result = RolloutResult(token_ids, mask, mask, {})
    x, weights = shift(distiller.student, result, sample.sample_weight)
    x, weights, y = keras.tree.map_structure(
        ops.convert_to_numpy, (x, weights, result.tokens)
    )
    y = y if rollout.has_labels else None
    return sample._replace(x=x, y=y, sample_weight=weights)
