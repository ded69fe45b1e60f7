"""A temperature for each sample, for teacher and student at once (DTKD)."""

import keras
from keras import ops

from keras_dtkd.core.hyperparameters import Hyperparameter
from keras_dtkd.functional import statistics
from keras_dtkd.temperatures import base
from keras_dtkd.temperatures.base import Temperature, TemperaturePair
from keras_dtkd.temperatures.collapse_warning import CollapseWarning
from keras_dtkd.temperatures.equal_sharpness import equal_sharpness

RULES = ("exact", "max", "centered", "std")
STOP_GRADIENT_MODES = (None, False, "weight", True)
# A rule without a `minimum` still needs its temperatures positive: this share of
# the mean temperature is far below what any of them gives but on a dead student.
MIN_RELATIVE_TEMPERATURE = 1e-6
# A bound against numerical trouble only: trained models do not reach it.
DEFAULT_MIN_TEMPERATURE = 0.1
# How the variable behind `minimum` says "auto".
AUTO_SENTINEL = -1.0


@keras.saving.register_keras_serializable("keras_dtkd")
class Dynamic(Temperature):
    """Sample by sample, the more confident model gets the higher temperature.

    Two temperatures with `T_s + T_t = 2τ` bring teacher and student to a common
    softness, in the sense of `rule`:

    - `"exact"`: equal sharpness, `log Σ exp(z / T)` of mean-centred logits. This
      solves the paper's own criterion; Newton's method, always a constant for the
      gradient. The default.
    - `"max"`: the paper's closed form, `T_t = 2xτ/(x+y)`, `T_s = 2yτ/(x+y)`, with x
      and y the greatest raw logit of teacher and student. It equalises the greatest
      scaled logit, `x/T_t = y/T_s`. It changes when a constant is added to a model's
      logits, and where x or y is not positive the formula fails (the authors' code
      then gives negative or infinite temperatures): there we take the centred maxima.
    - `"centered"`: the same with the maxima of mean-centred logits, free of shift.
    - `"std"`: `T_t/T_s = σ_t/σ_s`: equal standard deviation of the scaled logits, which
      is equal sharpness to second order.

    The published derivation is wrong: from `0 ≤ |sharpness difference| ≤ ‖u/T_t −
    v/T_s‖` (proposition 1) it sets the bound to zero, which no temperatures do, and
    zeroes one coordinate of it. The authors say so in an erratum, whose own δ gives
    negative temperatures wherever two logits differ in sign. After the published
    rule the sharpness still differs, by `log q_max − log p_max`.

    The published loss also has a degenerate minimum. Its weight `T_s · T_t` carries
    gradient, so a student lowers the loss by shrinking its logits to nothing:
    `T_s → 0` while `v/T_s` stays. A student that starts from nothing may take this
    way and end far below one trained alone. `"exact"` cannot; of the other rules,
    `stop_gradient="weight"` closes it.

    Args:
        temperature: τ, the mean of both temperatures: a positive number, or any rule
            (its mean temperature is then τ).
        rule: One of the four above.
        stop_gradient: For the last three rules: `False`, gradient through everything,
            as published (the default); `"weight"`, only the weight is constant;
            `True`, all is constant. `"exact"` is always constant.
        minimum: Smallest temperature of either model, below τ. `None` for no bound, as
            published; `"auto"` for τ/2 under `"exact"`, 0.1 under the other rules. May
            be changed while training runs. The loss's curvature in the student's
            logits grows as `T_t / T_s`: a student of small logits may not bear it.

    Call arguments:
        student_logits: `(..., classes)`. Raw logits, not probabilities.
        teacher_logits: `(..., classes)`.

    Returns:
        `Temperatures`: `student` and `teacher` of shape `(..., 1)`, positive and
        finite, `weight = T_s · T_t` of shape `(...)`. Classes masked out by a logit of
        `-1e9` or less count nowhere. Models of equal sharpness both get τ.

    Raises:
        ValueError: Unknown `rule` or `stop_gradient`, `"exact"` with a gradient,
            `temperature` not above 0, `minimum` not between 0 and it, nor a word.

    Reference:
        Wei and Bai, "Dynamic Temperature Knowledge Distillation", arXiv 2404.12711,
        equations 2 to 6. `"max"` follows the authors' code (signed maxima); the
        paper writes absolute values. The other rules are ours.

    Example:

    >>> KD(temperature=Dynamic(4.0, rule="std", stop_gradient="weight"))
    """

    minimum = Hyperparameter(above=0.0, words={None: 0.0, "auto": AUTO_SENTINEL})

    def __init__(
        self,
        temperature=4.0,
        rule="exact",
        stop_gradient=None,
        minimum=DEFAULT_MIN_TEMPERATURE,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if rule not in RULES:
            raise ValueError(
                f"Unknown rule. Received: rule={rule!r}. Known: "
                f"{', '.join(map(repr, RULES))}."
            )
        # Identity, not equality: 0 and 1 are no modes.
        if not any(
            stop_gradient is mode or stop_gradient == "weight"
            for mode in STOP_GRADIENT_MODES
        ):
            raise ValueError(
                "Unknown `stop_gradient`. Received: "
                f"stop_gradient={stop_gradient!r}. Known: False, 'weight', True, or "
                "None for the rule's own."
            )
        if rule == "exact" and stop_gradient not in (None, True):
            raise ValueError(
                "`rule='exact'` is always under stop-gradient. Received: "
                f"stop_gradient={stop_gradient!r}. Leave it out, or choose the rule "
                "'max', 'centered' or 'std'."
            )
        self._centre = base.get(temperature)
        self.rule = rule
        self.stop_gradient = stop_gradient
        self.minimum = minimum
        tau = getattr(self._centre, "temperature", None)
        # A saved state may hold a τ that a schedule took below: both then get τ.
        loaded = isinstance(temperature, dict)
        bound = self.minimum if isinstance(self.minimum, float) else 0.0
        if isinstance(tau, float) and not loaded and bound >= tau:
            raise ValueError(
                f"`minimum` must lie between 0 and the temperature {tau}, or be None "
                f"or 'auto'. Received: minimum={minimum!r}."
            )

    @property
    def temperature(self):
        """The rule that gives τ. Set it to a number to change τ during training."""
        return self._centre

    @temperature.setter
    def temperature(self, value):
        self._centre.temperature = value

    def call(self, student_logits, teacher_logits, sample_weight=None, base=None):
        """The temperatures of these logits; `base` are those that give τ, if known."""
        if base is None:
            base = self._centre(student_logits, teacher_logits, sample_weight)
        tau = 0.5 * (base.student + base.teacher)
        # The share of 2τ that the teacher gets; the student has the rest.
        if self.rule == "exact":
            lowest = self._lowest(ops.stop_gradient(tau))
            teacher, student = equal_sharpness(
                ops.stop_gradient(student_logits),
                ops.stop_gradient(teacher_logits),
                ops.stop_gradient(tau),
                lowest,
            )
            # τ itself may be learned, and may carry a gradient.
            scale = tau / ops.stop_gradient(tau)
            teacher, student = teacher * scale, student * scale
        else:
            x, y = self._sizes(student_logits, teacher_logits)
            teacher, student = self._split(x, y, tau)
        if self.stop_gradient is True:
            teacher, student = ops.stop_gradient(teacher), ops.stop_gradient(student)
        weight = teacher[..., 0] * student[..., 0]
        if self.stop_gradient == "weight":
            weight = ops.stop_gradient(weight)
        return TemperaturePair(student, teacher, weight)

    def _sizes(self, student_logits, teacher_logits):
        """What the temperatures are in proportion to: teacher's and student's."""
        where = ops.logical_and(
            statistics.is_unmasked(student_logits),
            statistics.is_unmasked(teacher_logits),
        )

        def centred_maximum(logits):
            z = statistics.center(logits, where=where)
            return ops.max(z, axis=-1, keepdims=True)

        if self.rule == "std":
            return (
                statistics.std(teacher_logits, where=where),
                statistics.std(student_logits, where=where),
            )
        if self.rule == "centered":
            return centred_maximum(teacher_logits), centred_maximum(student_logits)
        x = ops.max(teacher_logits, axis=-1, keepdims=True)
        y = ops.max(student_logits, axis=-1, keepdims=True)
        published = ops.logical_and(x > 0, y > 0)
        return (
            ops.where(published, x, centred_maximum(teacher_logits)),
            ops.where(published, y, centred_maximum(student_logits)),
        )

    def _split(self, x, y, tau):
        """2τ in the proportion x : y, each part at least the minimum."""
        total = x + y
        # Both models constant: nothing to equalise.
        defined = total > 0
        total = ops.where(defined, total, 1.0)
        lowest = self._lowest(tau)

        # Each by itself: `2τ - T_t` would cost a small T_s its digits.
        def part(size):
            temperature = 2.0 * tau * ops.where(defined, size / total, 0.5)
            return ops.minimum(ops.maximum(temperature, lowest), 2.0 * tau - lowest)

        return part(x), part(y)

    def _lowest(self, tau):
        # A learned or scheduled τ may come below a minimum that was right once.
        bound = ops.convert_to_tensor(self.hyperparameter("minimum"))
        bound = ops.where(bound == AUTO_SENTINEL, self._auto(tau), bound)
        return ops.maximum(MIN_RELATIVE_TEMPERATURE * tau, ops.minimum(bound, tau))

    def _auto(self, tau):
        """The bound that "auto" stands for."""
        return 0.5 * tau if self.rule == "exact" else DEFAULT_MIN_TEMPERATURE

    def collapse_threshold(self):
        """A mean student temperature that tells of a collapsed student.

        Returns:
            1.5 times the `minimum`, or 2 % of τ where that is more; 0 where the
            minimum is too high for a student to fall to nothing, τ/4 or more.
        """
        tau = getattr(self._centre, "temperature", None)
        tau = tau if isinstance(tau, float) else 0.0
        bound = self.minimum or 0.0
        if bound == "auto":
            bound = self._auto(tau)
        return 0.0 if bound >= 0.25 * tau > 0.0 else max(1.5 * bound, 0.02 * tau)

    def training_callbacks(self, distiller):
        """A `CollapseWarning`, where this temperature is logged and may collapse."""
        # An untrained student is low under the exact rule too, which has no such
        # minimum: it cannot lower the loss by shrinking.
        if self.rule == "exact":
            return []
        return [
            CollapseWarning(self, name, distiller.temperature_log_names(name)[0])
            for name, loss in distiller.distillation_losses.items()
            if loss.get_temperatures() and loss.get_temperatures()[0] is self
        ]

    def on_epoch_begin(self, epoch, epochs):
        """Passes the call on to the rule that gives τ."""
        super().on_epoch_begin(epoch, epochs)
        self._centre.on_epoch_begin(epoch, epochs)

    def variables_without_weight_decay(self):
        """Those of the rule that gives τ."""
        return self._centre.variables_without_weight_decay()

    def get_config(self):
        """The arguments that make this rule again."""
        return {
            **super().get_config(),
            "temperature": keras.saving.serialize_keras_object(self._centre),
            "rule": self.rule,
            "stop_gradient": self.stop_gradient,
            "minimum": self.minimum,
        }
