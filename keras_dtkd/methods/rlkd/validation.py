"""Whether the rewards of a policy can be measured."""

import keras

from keras_dtkd.core import arrays
from keras_dtkd.core.issue import ERROR, Issue
from keras_dtkd.core.layer_tree import iter_layers
from keras_dtkd.preparation.measure import check_auxiliary_inputs
from keras_dtkd.teachers.sample_ids import model_inputs
from keras_dtkd.validation import labels

HOLDOUT = "the held-out samples"


def check_policy(policy, context):
    """Runs in which the rewards of a policy cannot be measured."""
    if context.run != "fit" or context.compiled is None:
        return []
    return [
        *_check_data(policy, context),
        *_check_run(policy, context),
        *_check_holdout(policy, context),
    ]


def _error(code, message, hint):
    return Issue(code, ERROR, f"`Policy`: {message}", hint)


def _check_data(policy, context):
    batch_size, x = context.batch_size, context.x
    in_memory = arrays.is_arrays(x)
    if in_memory and min(batch_size or 32, arrays.num_samples(x)) > policy.capacity:
        message = f"batch_size={batch_size} is above capacity={policy.capacity}."
        yield _error("policy_capacity", message, "Raise `capacity`.")
    if policy.holdout is None:
        message = "its held-out data is in no file."
        yield _error("no_holdout", message, "Set it again: `policy.holdout = (x, y)`.")
    elif policy.hold_out(x) and (not in_memory or context.y is None):
        received = "no labels" if in_memory else f"data of type {type(x).__name__}"
        message = (
            "it measures rewards on samples with labels that the student is not "
            f"trained on, and takes them from the arrays `fit(x, y)`. Received: "
            f"{received}."
        )
        yield _error("no_holdout", message, "Give `Policy(holdout=(x, y))`.")


def _check_run(policy, context):
    compiled, losses = context.compiled, context.losses.values()
    if sum(policy in list(iter_layers(loss)) for loss in losses) > 1:
        message = "two losses have the same policy."
        yield _error("shared_policy", message, "Give each its own.")
    if compiled.is_distributed:
        message = "it learns on one device, and this `fit` runs on several."
        yield _error("policy_distributed", message, "Use another temperature.")
    if compiled.steps_per_execution != 1:
        message = (
            "it measures the reward of each update. Received: steps_per_execution="
            f"{compiled.steps_per_execution}."
        )
        hint = "Compile with 1; `Policy(reward_every=...)` measures less often."
        yield _error("policy_updates", message, hint)
    inner = getattr(compiled.optimizer, "inner_optimizer", compiled.optimizer)
    steps = inner.gradient_accumulation_steps or 1
    if policy.reward_every % steps:
        message = (
            f"the weights change once in {steps} steps, the optimizer's "
            "`gradient_accumulation_steps`, and `reward_every` must be a multiple of "
            f"that. Received: reward_every={policy.reward_every}."
        )
        yield _error("policy_updates", message, "Raise `reward_every`.")


def _check_holdout(policy, context):
    """Held-out samples that do not fit the student, or have other labels."""
    is_given = isinstance(policy.holdout, list | tuple)
    x, y = policy.holdout if is_given else (None, context.y)
    losses = context.losses.values()
    loss = next(loss for loss in losses if policy in list(iter_layers(loss)))
    spec, _ = context.specs_of(loss)
    key, student = spec.key, context.student
    issues = labels.check_labels_of_output("Policy", HOLDOUT, student, key, y)
    if issues or not is_given:
        return issues
    y = spec.select(y)
    x, y = keras.tree.map_structure(arrays.to_numpy, (model_inputs(x), y))
    models = {"student": student}
    return [
        *check_auxiliary_inputs("Policy", HOLDOUT, x, context, models),
        # docs/rlkd.md: the padding of sequences is labelled -1.
        *labels.check_distilled_labels(context, spec, y, f" of {HOLDOUT}", padding=-1),
    ]
