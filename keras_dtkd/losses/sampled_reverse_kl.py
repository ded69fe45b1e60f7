"""On-policy distillation by the log-probabilities of the sampled tokens."""

import keras
from keras import ops

from keras_dtkd.core.arguments import check_choice
from keras_dtkd.functional.labels import one_hot
from keras_dtkd.functional.statistics import soft_log_probs
from keras_dtkd.losses.base import DistillationLoss

ESTIMATORS = ("k1", "k3")
# The exponent of k3 is cut here: one token must not outweigh all others.
MAX_LOG_RATIO = 20.0


@keras.saving.register_keras_serializable("keras_dtkd")
class SampledReverseKL(DistillationLoss):
    """Reverse KL at the tokens that the student drew, for `rollouts.Student`.

    With `r = log q(y) − log p(y)` of the token y, the student's q and the teacher's p:

    - `estimator="k1"`: the value r, an unbiased estimate of `KL(q ‖ p)`. Its gradient
      is that of the expectation, `r ∇ log q(y)`: a policy gradient with the advantage
      −r. (The derivative of r itself has the mean 0, and teaches nothing.)
    - `estimator="k3"`: the value `exp(−r) − 1 + r`, unbiased too and never negative,
      with its own derivative `(1 − exp(−r)) ∇ log q(y)`. In the mean over tokens of q
      this is the gradient of the forward `KL(p ‖ q)`, not of the reverse.

    Both estimates are of tokens that the student itself drew, at temperature 1 and
    `top_p=1`; of other tokens they are biased.

    Where all logits are known, `KD(divergence="reverse_kl")` has the same expectation
    as k1 and far less variance; the sampled forms show what a teacher that gives one
    number a token would teach.

    Args:
        estimator: `"k1"` or `"k3"`.
        **kwargs: `weight`, `warmup_epochs` and more, see `DistillationLoss`.

    Call arguments:
        student_logits, teacher_logits: `(batch, ..., classes)`.
        labels: The tokens, `(batch, ...)`; of a rollout, or of the data.

    Returns:
        One value a token, in nats, of shape `(batch, ...)`.

    Raises:
        ValueError: Unknown estimator, a negative weight.

    Reference:
        On-policy distillation as in the Qwen3 report (arXiv 2505.09388, section 4.5),
        verl and NeMo RL. The estimators: Schulman, "Approximating KL Divergence",
        2020. verl cuts `exp(−r) − 1 + r` itself to ±10; here `exp(−r)` is, at e^20.

    Example:

    >>> rollout = rollouts.Student(max_length=256)
    >>> Distiller(teacher, student, SampledReverseKL(), rollout=rollout).fit(prompts)
    """

    needs_labels = True
    compares_classes = True

    def __init__(self, estimator="k1", **kwargs):
        super().__init__(**kwargs)
        self.estimator = check_choice(
            "SampledReverseKL", "estimator", estimator, ESTIMATORS
        )

    def call(self, student_logits, teacher_logits, labels=None):
        if labels is None:
            raise ValueError(
                "`SampledReverseKL` needs labels: the tokens that were drawn."
            )
        tokens = one_hot(labels, student_logits)

        def log_prob(logits):
            log_probs = soft_log_probs(logits)
            return ops.sum(ops.where(tokens > 0, log_probs, 0.0), axis=-1)

        log_q = log_prob(student_logits)
        ratio = log_q - ops.stop_gradient(log_prob(teacher_logits))
        ratio = ops.stop_gradient(ratio)
        # A value, and the factor of `∇ log q` in the gradient.
        value, factor = ratio, ratio
        if self.estimator == "k3":
            teachers_share = ops.exp(ops.minimum(-ratio, MAX_LOG_RATIO))
            value, factor = teachers_share - 1.0 + ratio, 1.0 - teachers_share
        return value + factor * (log_q - ops.stop_gradient(log_q))
