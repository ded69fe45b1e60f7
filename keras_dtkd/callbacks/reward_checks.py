"""Whether the rewards of policies can be measured."""

import keras

from keras_dtkd import backend, beside, data, label_checks, rows

HELD_OUT = "the held-out samples"


def measurable(distiller, policies, x, y, batch_size):
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
        several = backend.replicas() > 1 or backend.processes()[1] > 1
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
    arrays, steps = data.is_arrays(x), _accumulated(distiller.optimizer)
    for policy in policies:
        every = policy.get_config()["reward_every"]
        if every % steps:
            raise ValueError(
                f"`Policy`: the weights change once in {steps} steps, the optimizer's "
                "`gradient_accumulation_steps`, and `reward_every` must be a multiple "
                f"of that. Received: reward_every={every}."
            )
        capacity = policy.get_config()["capacity"]
        if arrays and min(batch_size or 32, data.rows_of(x)) > capacity:
            raise ValueError(
                f"`Policy`: batch_size={batch_size} is above capacity={capacity}. "
                "Raise `capacity`."
            )
        held = policy.held_out
        if isinstance(held, list | tuple):
            continue
        if held is None:
            raise ValueError(
                "`Policy`: its held-out data is in no file. Set it again: "
                "`policy.held_out = (x, y)`."
            )
        if not arrays or y is None:
            what = "no labels" if arrays else f"data of type {type(x).__name__}"
            raise ValueError(
                "`Policy`: it measures rewards on samples with labels that the student "
                "is not trained on, and takes them from the arrays `fit(x, y)`. "
                f"Received: {what}. Give `Policy(held_out=(x, y))`."
            )


def _accumulated(optimizer):
    """In how many steps the weights change once."""
    both = optimizer, getattr(optimizer, "inner_optimizer", None)
    return max(getattr(one, "gradient_accumulation_steps", None) or 1 for one in both)


def held_out(distiller, rewards, sample):
    """Refuses `held_out=(x, y)` of which the student cannot be asked.

    Args:
        distiller: The Distiller, compiled, its models looked at.
        rewards: The `Rewards` of its policies.
        sample: The `keras_dtkd.data.Sample` of those trained on.

    Raises:
        ValueError: It cannot.
    """
    sample = sample._replace(x=rows.inputs(sample.x))
    student = {"student": distiller.student}
    for one in rewards:
        if not isinstance(one.policy.held_out, list | tuple):
            continue
        x, y = keras.tree.map_structure(data.to_numpy, one.held)
        beside.look("Policy", HELD_OUT, rows.inputs(x), sample, student)
        # docs/rlkd.md: so is the padding of sequences labelled.
        label_checks.fit_distilled(distiller, y, f" of {HELD_OUT}", padding=-1)
