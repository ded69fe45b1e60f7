"""The callback that a `Policy` brings: it measures what an update was worth."""

import numpy as np
from keras import ops

from keras_dtkd.core import arrays, logits
from keras_dtkd.core.hooks import FitCallback
from keras_dtkd.functional.labels import one_hot


class RewardCallback(FitCallback):
    """Measures the rewards of a policy, updates it, and logs their mean.

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
        self.holdout = x, y
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
        x, y = self.holdout
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
        z = logits.to_logits(ops.convert_to_tensor(output), model.output_kinds[0])
        label = ops.convert_to_numpy(one_hot(y, z)).astype("float64")
        log_p = ops.convert_to_numpy(ops.log_softmax(z)).astype("float64")
        return -(label * log_p).sum() / label.sum()

    def on_train_batch_end(self, batch, logs=None):
        """Measures what the last updates were worth; gives a lesson when it is time."""
        self._steps += 1
        if self._steps == self._every:
            _sync_variables(self.model)
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
            _sync_variables(self.model)
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


def _sync_variables(model):
    """Fills the model's variables between two steps: under JAX they are empty."""
    getattr(model, "jax_state_sync", lambda: None)()
