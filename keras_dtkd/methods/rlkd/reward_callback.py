"""What an update was worth: the callback that a `temperatures.Policy` brings along."""

import math

import keras
import numpy as np
from keras import ops

from keras_dtkd import backend
from keras_dtkd.core import arrays, logits
from keras_dtkd.core.layer_tree import iter_layers
from keras_dtkd.functional.labels import one_hot
from keras_dtkd.methods.rlkd.policy import Policy
from keras_dtkd.methods.rlkd.validation import HOLDOUT, validate_reward_setup
from keras_dtkd.teachers import sample_ids
from keras_dtkd.validation import labels


class RewardCallback(keras.callbacks.Callback):
    """Measures the rewards of a policy, tells it of them, and logs their mean.

    Args:
        policy: A `Policy`.
        x: Inputs that the student is not trained on.
        y: Their labels.
        name: Of the logged mean.
    """

    def __init__(self, policy, x, y, name):
        super().__init__()
        self.policy = policy
        self.name = name
        self.held = x, y
        self._options = policy.get_config()
        self._batch = x, y

    def on_epoch_begin(self, epoch, logs=None):
        """Begins a rollout."""
        steps = self.params["steps"]
        every, length = self._options["reward_every"], self._options["rollout"]
        if steps is not None:
            length = -(-steps // max(1, round(steps / length)))
        # Of rewards. The last rollout of an epoch may be shorter.
        self._length = -(-length // every)
        self._every = every
        self._rewards = []
        self.policy.rollout_buffer.reset(self.policy.is_sampling)
        self._begin()

    def _begin(self):
        """Chooses samples, and measures where the student stands."""
        x, y = self.held
        count = arrays.num_samples(y)
        # By the number of lessons: a run that was interrupted goes on with the same.
        seed = [self._options["seed"], self.policy.num_policy_updates]
        few = min(self._options["reward_samples"], count)
        chosen = np.random.default_rng(seed).choice(count, few, replace=False)
        self._batch = arrays.take_rows(x, chosen), arrays.take_rows(y, chosen)
        self._groups, self._measured, self._steps = [], [], 0
        self._before = self._loss()

    def _loss(self):
        """The student's cross-entropy on the chosen samples."""
        x, y = self._batch
        model = self.model
        outputs = model.predict_on_batch(x)
        names = getattr(model.student, "output_names", None)
        output = logits.select_output(outputs, model.distilled_output, names)
        z = logits.to_logits(ops.convert_to_tensor(output), model.held.heads[0])
        label = ops.convert_to_numpy(one_hot(y, z)).astype("float64")
        log_p = ops.convert_to_numpy(ops.log_softmax(z)).astype("float64")
        return -(label * log_p).sum() / label.sum()

    def on_train_batch_end(self, batch, logs=None):
        """Measures what the last updates were worth; gives a lesson when it is time."""
        self._steps += 1
        if self._steps == self._every:
            backend.sync_variables(self.model)
            self._measure()
            if len(self._measured) == self._length:
                self._teach()
                self._begin()

    def _measure(self):
        after = self._loss()
        explores = self.policy.is_sampling
        group = self.policy.rollout_buffer.pop(self._steps) if explores else None
        reward, self._before, self._steps = self._before - after, after, 0
        # A student that has left the numbers teaches nothing.
        if np.isfinite(reward):
            self._groups.append(group)
            self._measured.append(reward)
            self._rewards.append(reward)

    def _teach(self):
        if self.policy.mode != "learn" or len(self._measured) < 2:
            return
        # Of updates on rows of weight 0 there is nothing to learn.
        if any(map(len, self._groups)):
            self.policy.update(self._groups, self._measured)

    def on_test_begin(self, logs=None):
        """In validation the policy acts by its mean."""
        if self._steps:
            # The last updates of the epoch, before what was kept is forgotten.
            backend.sync_variables(self.model)
            self._measure()
        self.stop()

    def on_epoch_end(self, epoch, logs=None):
        """Ends the rollout."""
        if self._steps:
            self._measure()
        self._teach()
        self.stop()
        if logs is not None and self._rewards:
            logs[self.name] = float(np.mean(self._rewards))

    def stop(self):
        """From now on the policy acts by its mean."""
        self.policy.rollout_buffer.reset(False)


def holdout_indices(count, share):
    """Which of so many samples are held out: the same in every run.

    Args:
        count: Of samples.
        share: Of them that is held out, at least one.

    Returns:
        Integers, ascending. Drawn, for data may have its classes in turns.
    """
    few = max(1, round(share * count))
    return np.sort(np.random.default_rng(0).choice(count, few, replace=False))


def build_reward_callbacks(distiller, x, y, batch_size, kwargs):
    """Takes out of the data what policies need to measure their rewards.

    Args:
        distiller: The Distiller.
        x: As `fit` got it.
        y: As `fit` got it.
        batch_size: As `fit` got it.
        kwargs: Other arguments of `fit`: `sample_weight` is cut too, and
            `validation_split` keeps its samples.

    Returns:
        `(callbacks, x, y)`: a `Rewards` for each policy, and what is left to train on.

    Raises:
        ValueError: They cannot be measured.
    """
    losses = distiller.distillation_losses
    found = [
        (name, part)
        for name, loss in losses.items()
        for part in iter_layers(loss)
        if isinstance(part, Policy)
    ]
    if not found:
        return [], x, y
    validate_reward_setup(distiller, [policy for _, policy in found], x, y, batch_size)
    shares = [p.holdout for _, p in found if not isinstance(p.holdout, list | tuple)]
    own: tuple = ()
    if shares:
        count = arrays.num_samples(x)
        split = kwargs.get("validation_split") or 0.0
        # Keras validates on the last samples: these are not for training either.
        training = math.floor(count * (1.0 - split))
        held = holdout_indices(training, max(shares))
        left = np.delete(np.arange(count), held)
        trained = training - len(held)
        # Of little data all that there is may be less than a batch.
        if trained < min(batch_size or 32, len(held)):
            raise ValueError(
                f"`Policy`: holdout={max(shares)} leaves {trained} of {training} "
                "samples to train on. Hold out a smaller share, or give "
                "`holdout=(x, y)`."
            )
        if split:
            # The same samples as without a policy. Keras rounds down.
            kwargs["validation_split"] = 1.0 - (trained + 0.5) / len(left)
        own = (
            sample_ids.model_inputs(arrays.take_rows(x, held)),
            arrays.take_rows(y, held),
        )
        x, y = arrays.take_rows(x, left), arrays.take_rows(y, left)
        if kwargs.get("sample_weight") is not None:
            kwargs["sample_weight"] = arrays.take_rows(kwargs["sample_weight"], left)
    callbacks = []
    for name, policy in found:
        given = policy.holdout
        its_x, its_y = given if isinstance(given, list | tuple) else own
        its_y = labels.labels_of_distilled_output(distiller, its_y, "Policy", HOLDOUT)
        log = "reward" if policy is found[0][1] else f"{name}_reward"
        callbacks.append(RewardCallback(policy, its_x, its_y, log))
    return callbacks, x, y
