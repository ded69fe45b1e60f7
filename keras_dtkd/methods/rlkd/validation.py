"""Whether the rewards of a policy can be measured."""

import keras

from keras_dtkd import backend
from keras_dtkd.core import arrays
from keras_dtkd.core.layer_tree import iter_layers
from keras_dtkd.teachers.sample_ids import model_inputs
from keras_dtkd.validation import auxiliary_data, labels

HOLDOUT = "the held-out samples"


def validate_training_data(policy, data):
    """Refuses data in which the rewards of a policy cannot be measured.

    Args:
        policy: A `Policy`.
        data: The `keras_dtkd.preparation.holdout.TrainingData`.

    Raises:
        ValueError: They cannot.
    """
    in_memory = arrays.is_arrays(data.x)
    capacity = policy.get_config()["capacity"]
    if in_memory and min(data.batch_size or 32, arrays.num_samples(data.x)) > capacity:
        raise ValueError(
            f"`Policy`: batch_size={data.batch_size} is above capacity={capacity}. "
            "Raise `capacity`."
        )
    if isinstance(policy.holdout, list | tuple):
        return
    if policy.holdout is None:
        raise ValueError(
            "`Policy`: its held-out data is in no file. Set it again: "
            "`policy.holdout = (x, y)`."
        )
    # With `sample_weight` alone, `fit` has put empty labels in place of none.
    if not in_memory or arrays.drop_placeholder(data.y) is None:
        found = "no labels" if in_memory else f"data of type {type(data.x).__name__}"
        raise ValueError(
            "`Policy`: it measures rewards on samples with labels that the student "
            "is not trained on, and takes them from the arrays `fit(x, y)`. "
            f"Received: {found}. Give `Policy(holdout=(x, y))`."
        )


def validate_training_setup(policy, distiller):
    """Refuses runs in which the rewards of a policy cannot be measured.

    Args:
        policy: A `Policy`.
        distiller: The Distiller, compiled.

    Raises:
        ValueError: They cannot.
    """
    losses = distiller.distillation_losses.values()
    if sum(policy in list(iter_layers(loss)) for loss in losses) > 1:
        raise ValueError(
            "`Policy`: two losses have the same policy. Give each its own."
        )
    with backend.building_scope(getattr(distiller, "distribute_strategy", None)):
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
    steps = _accumulation_steps(distiller.optimizer)
    every = policy.get_config()["reward_every"]
    if every % steps:
        raise ValueError(
            f"`Policy`: the weights change once in {steps} steps, the optimizer's "
            "`gradient_accumulation_steps`, and `reward_every` must be a multiple "
            f"of that. Received: reward_every={every}."
        )


def _accumulation_steps(optimizer):
    """In how many steps the weights change once."""
    optimizers = optimizer, getattr(optimizer, "inner_optimizer", None)
    return max(getattr(o, "gradient_accumulation_steps", None) or 1 for o in optimizers)


def validate_holdout(distiller, x, y):
    """Refuses `holdout=(x, y)` that does not fit the student.

    Args:
        distiller: The Distiller, compiled, its models inspected.
        x: Inputs.
        y: Labels of the distilled output.

    Raises:
        ValueError: It does not.
    """
    sample = distiller.run_context.sample
    sample = sample._replace(x=model_inputs(sample.x))
    x, y = keras.tree.map_structure(arrays.to_numpy, (x, y))
    auxiliary_data.validate_auxiliary_inputs(
        "Policy", HOLDOUT, model_inputs(x), sample, {"student": distiller.student}
    )
    # docs/rlkd.md: so is the padding of sequences labelled.
    labels.validate_distilled_labels(distiller, y, f" of {HOLDOUT}", padding=-1)
