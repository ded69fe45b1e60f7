"""The callback of a `Policy`: it measures the reward of each weight update."""

import keras
import numpy as np
from keras import ops

from keras_dtkd.core import arrays
from keras_dtkd.core.hooks import FitCallback
from keras_dtkd.functional.labels import one_hot


class RewardCallback(FitCallback):
    """Measures rewards on held-out `x` and `y`, updates the policy, logs the mean.

    `spec` is the student's `OutputSpec` that the policy's loss compares.
    """

    def __init__(self, policy, spec, x, y, name):
        super().__init__()
        self.policy, self.spec, self.name = policy, spec, name
        self.holdout = x, y

    def on_epoch_begin(self, epoch, logs=None):
        steps, length = self.params["steps"], self.policy.rollout
        if steps is not None:
            length = -(-steps // max(1, round(steps / length)))
        # In rewards. The last rollout of an epoch may be shorter.
        self._rollout_length = -(-length // self.policy.reward_every)
        self._epoch_rewards = []
        self.policy.rollout_buffer.reset(self.policy.is_sampling)
        self._start_rollout()

    def _start_rollout(self):
        """Draws the samples of its rewards, and measures the student's loss on them."""
        x, y = self.holdout
        count = arrays.num_samples(y)
        # By the number of updates: an interrupted run continues with the same samples.
        rng = np.random.default_rng([self.policy.seed, self.policy.num_policy_updates])
        size = min(self.policy.reward_samples, count)
        indices = rng.choice(count, size, replace=False)
        self._batch = arrays.take_rows(x, indices), arrays.take_rows(y, indices)
        self._groups, self._rewards, self._steps = [], [], 0
        self._loss_before = self._compute_loss()

    def _compute_loss(self):
        """The student's cross-entropy on the samples of this rollout."""
        x, y = self._batch
        outputs = self.model.predict_on_batch(x)
        logits = self.spec.select_logits(
            keras.tree.map_structure(ops.convert_to_tensor, outputs)
        )
        label = ops.convert_to_numpy(one_hot(y, logits)).astype("float64")
        log_probs = ops.convert_to_numpy(ops.log_softmax(logits)).astype("float64")
        return -(label * log_probs).sum() / label.sum()

    def on_train_batch_end(self, batch, logs=None):
        self._steps += 1
        if self._steps == self.policy.reward_every:
            self._measure_reward()
            if len(self._rewards) == self._rollout_length:
                self._update_policy()
                self._start_rollout()

    def _measure_reward(self):
        # Under JAX the model's variables are empty between two steps.
        getattr(self.model, "jax_state_sync", lambda: None)()
        loss = self._compute_loss()
        group = None
        if self.policy.is_sampling:
            group = self.policy.rollout_buffer.pop(self._steps)
        reward, self._loss_before, self._steps = self._loss_before - loss, loss, 0
        # A diverged student has no rewards.
        if np.isfinite(reward):
            self._groups.append(group)
            self._rewards.append(reward)
            self._epoch_rewards.append(reward)

    def _update_policy(self):
        if self.policy.mode != "learn" or len(self._rewards) < 2:
            return
        # Batches of samples of weight 0 have empty groups.
        if any(map(len, self._groups)):
            self.policy.update(self._groups, self._rewards)

    def on_test_begin(self, logs=None):
        if self._steps:
            # The last updates of the epoch, before the buffer is cleared.
            self._measure_reward()
        self.stop()

    def on_epoch_end(self, epoch, logs=None):
        if self._steps:
            self._measure_reward()
        self._update_policy()
        self.stop()
        if logs is not None and self._epoch_rewards:
            logs[self.name] = float(np.mean(self._epoch_rewards))

    def stop(self):
        """Makes the policy use its mean action, as in validation."""
        self.policy.rollout_buffer.reset(False)
