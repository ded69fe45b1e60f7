"""Whether the rewards of policies can be measured."""

import keras

from keras_dtkd import backend
from keras_dtkd.core import arrays
from keras_dtkd.teachers import sample_ids
from keras_dtkd.validation import auxiliary_data, labels

HOLDOUT = "the held-out samples"


def validate_reward_setup(distiller, policies, x, y, batch_size):
    """Refuses runs in which the rewards of policies cannot be measured.

    Args:
        distiller: The Distiller, compiled.
        policies: Each `Policy` of its losses.
        x: As `fit` got it.
        y: As `fit` got it.
        batch_size: As `fit` got it.

    Raises:
        ValueError: They cannot.
    """
    if len({id(policy) for policy in policies}) < len(policies):
        raise ValueError(
            "`Policy`: two losses have the same policy. Give each its own."
        )
    with backend.building_scope(distiller):
        several = backend.replicas() > 1 or backend.rank_and_world_size()[1] > 1
    if several or keras.distribution.distribution() is not None:
        raise ValueError(
            "`Policy`: it learns on one device, and this `fit` runs on several. Use "
            "another temperature."
        )
    if distiller.steps_per_execution != 1:
        raise ValueError(
            "`Policy`: it measures the reward of each update. Received: "
            f"steps_per_execution={distiller.steps_per_execution}. Compile with 1; "
            "`Policy(reward_every=...)` measures less often."
        )
    in_memory, steps = arrays.is_arrays(x), _accumulation_steps(distiller.optimizer)
    for policy in policies:
        every = policy.get_config()["reward_every"]
        if every % steps:
            raise ValueError(
                f"`Policy`: the weights change once in {steps} steps, the optimizer's "
                "`gradient_accumulation_steps`, and `reward_every` must be a multiple "
                f"of that. Received: reward_every={every}."
            )
        capacity = policy.get_config()["capacity"]
        if in_memory and min(batch_size or 32, arrays.num_samples(x)) > capacity:
            raise ValueError(
                f"`Policy`: batch_size={batch_size} is above capacity={capacity}. "
                "Raise `capacity`."
            )
        held = policy.holdout
        if isinstance(held, list | tuple):
            continue
        if held is None:
            raise ValueError(
                "`Policy`: its held-out data is in no file. Set it again: "
                "`policy.holdout = (x, y)`."
            )
        if not in_memory or y is None:
            what = "no labels" if in_memory else f"data of type {type(x).__name__}"
            raise ValueError(
                "`Policy`: it measures rewards on samples with labels that the student "
                "is not trained on, and takes them from the arrays `fit(x, y)`. "
                f"Received: {what}. Give `Policy(holdout=(x, y))`."
            )


def _accumulation_steps(optimizer):
    """In how many steps the weights change once."""
    both = optimizer, getattr(optimizer, "inner_optimizer", None)
    return max(getattr(one, "gradient_accumulation_steps", None) or 1 for one in both)


def validate_holdout(distiller, rewards, sample):
    """Refuses `holdout=(x, y)` of which the student cannot be asked.

    Args:
        distiller: The Distiller, compiled, its models looked at.
        rewards: The `Rewards` of its policies.
        sample: The `keras_dtkd.preparation.data_peek.Sample` of those trained on.

    Raises:
        ValueError: It cannot.
    """
    sample = sample._replace(x=sample_ids.model_inputs(sample.x))
    student = {"student": distiller.student}
    for one in rewards:
        if not isinstance(one.policy.holdout, list | tuple):
            continue
        x, y = keras.tree.map_structure(arrays.to_numpy, one.held)
        auxiliary_data.validate_auxiliary_inputs(
            "Policy", HOLDOUT, sample_ids.model_inputs(x), sample, student
        )
        # docs/rlkd.md: so is the padding of sequences labelled.
        labels.validate_distilled_labels(distiller, y, f" of {HOLDOUT}", padding=-1)
