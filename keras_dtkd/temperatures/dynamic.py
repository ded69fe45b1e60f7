"""A temperature for each sample, for teacher and student at once (DTKD)."""

import keras
from keras import ops

from keras_dtkd.core.arguments import check_choice
from keras_dtkd.core.hyperparameters import Hyperparameter
from keras_dtkd.functional import statistics
from keras_dtkd.temperatures.base import DerivedTemperature, TemperaturePair
from keras_dtkd.temperatures.collapse_warning import CollapseWarning
from keras_dtkd.temperatures.equal_sharpness import equal_sharpness

RULES = ("exact", "max", "centered", "std")
STOP_GRADIENT_MODES = (None, False, "weight", True)
# Temperatures must be positive even without a `min_temperature`. This share of the mean
# temperature is far below what any rule gives, except for a collapsed student.
MIN_RELATIVE_TEMPERATURE = 1e-6
# A bound against numerical trouble only: trained models do not reach it.
DEFAULT_MIN_TEMPERATURE = 0.1
# The value of the variable behind `min_temperature="auto"`.
AUTO_SENTINEL = -1.0


@keras.saving.register_keras_serializable("keras_dtkd")
class Dynamic(DerivedTemperature):
    """Gives the more confident model the higher temperature, sample by sample.

    Two temperatures with `T_s + T_t = 2τ` bring teacher and student to a common
    softness, in the sense of `rule`:

    - `"exact"`: equal sharpness, `log Σ exp(z / T)` of mean-centered logits. This
      solves the paper's own criterion by Newton's method, without gradient. The
      default.
    - `"max"`: the paper's closed form, `T_t = 2xτ/(x+y)`, `T_s = 2yτ/(x+y)`, with x
      and y the maximum of the raw logits of teacher and student: equal maxima of the
      scaled logits. It changes when a constant is added to a model's logits. Where x or
      y is not positive (the authors' code then gives negative or infinite
      temperatures), the centered maxima are used.
    - `"centered"`: the same with the maxima of mean-centered logits, invariant to
      shifts.
    - `"std"`: `T_t/T_s = σ_t/σ_s`: equal standard deviation of the scaled logits, which
      is equal sharpness to second order.

    The published derivation is wrong, as the authors state in an erratum: it bounds the
    difference in sharpness by `‖u/T_t − v/T_s‖`, u and v the logits of teacher and
    student, and sets the bound to zero, which no temperatures do, for one class alone.
    After its closed form the sharpness still differs, by `log q_max − log p_max`
    (docs/dtkd.md).

    The published loss also has a degenerate minimum. Its weight `T_s · T_t` carries
    gradient, so a student can lower the loss by shrinking its logits to zero: `T_s → 0`
    while `v/T_s` stays constant. `"exact"` has no such minimum; with the other rules,
    `stop_gradient="weight"` removes it (students may collapse under `"centered"` all
    the same).

    Args:
        temperature: τ, the mean of both temperatures: a positive number, or any
            `Temperature` (its mean temperature is then τ).
        rule: One of the four above.
        stop_gradient: For the last three rules: `False`, gradient through everything,
            as published (the default); `"weight"`, no gradient through the weight;
            `True`, no gradient through weight and temperatures. `"exact"` never has a
            gradient.
        min_temperature: Lower bound of both models' temperatures, below τ. `None` for
            no bound, as published; `"auto"` for τ/2 with `"exact"`, 0.1 with the other
            rules. Can be changed during training. The curvature of the loss in the
            student's logits grows as `T_t / T_s`, which may be too much for a student
            with small logits.

    Call arguments:
        student_logits, teacher_logits: `(..., classes)`, raw logits.
        sample_weight: For a base temperature that couples the batch.

    Returns:
        `TemperaturePair`: `student` and `teacher` of shape `(..., 1)`, positive and
        finite, `weight = T_s · T_t` of shape `(...)`. Classes masked out by a logit of
        `-1e8` or less are ignored. Models of equal sharpness both get τ.

    Raises:
        ValueError: Unknown `rule` or `stop_gradient`, `"exact"` with a gradient,
            `temperature` not above 0, `min_temperature` not between 0 and τ, `None` or
            `"auto"`.

    Reference:
        Wei and Bai, "Dynamic Temperature Knowledge Distillation", arXiv 2404.12711,
        equations 2 to 6. `"max"` follows the authors' code (signed maxima); the
        paper writes absolute values. The other rules are ours.

    Example:

    >>> KD(temperature=Dynamic(4.0, rule="std", stop_gradient="weight"))
    """

    min_temperature = Hyperparameter(
        greater_than=0.0, aliases={None: 0.0, "auto": AUTO_SENTINEL}
    )

    def __init__(
        self,
        temperature=4.0,
        rule="exact",
        stop_gradient=None,
        min_temperature=DEFAULT_MIN_TEMPERATURE,
        **kwargs,
    ):
        super().__init__(temperature, **kwargs)
        self.rule = check_choice("Dynamic", "rule", rule, RULES)
        self.stop_gradient = check_choice(
            "Dynamic", "stop_gradient", stop_gradient, STOP_GRADIENT_MODES
        )
        if rule == "exact" and stop_gradient not in (None, True):
            raise ValueError(
                "`Dynamic`: `rule='exact'` never has a gradient. Received: "
                f"stop_gradient={stop_gradient!r}. Omit `stop_gradient`, or choose the "
                "rule 'max', 'centered' or 'std'."
            )
        self.min_temperature = min_temperature
        tau = getattr(self._base, "temperature", None)
        # A saved τ may be below the bound, where a schedule lowered it: both
        # temperatures are then τ.
        is_loaded = isinstance(temperature, dict)
        bound = self.min_temperature if isinstance(self.min_temperature, float) else 0.0
        if isinstance(tau, float) and not is_loaded and bound >= tau:
            raise ValueError(
                "`Dynamic`: `min_temperature` must lie between 0 and the temperature "
                f"{tau}, or be None or 'auto'. Received: "
                f"min_temperature={min_temperature!r}."
            )

    def call(self, student_logits, teacher_logits, sample_weight=None, base=None):
        """Returns the temperatures of these logits; `base` gives τ, if known."""
        if base is None:
            base = self._base(student_logits, teacher_logits, sample_weight)
        tau = 0.5 * (base.student + base.teacher)
        student_logits = statistics.clamp(student_logits)
        teacher_logits = statistics.clamp(teacher_logits)
        if self.rule == "exact":
            constant_tau = ops.stop_gradient(tau)
            teacher, student = equal_sharpness(
                ops.stop_gradient(student_logits),
                ops.stop_gradient(teacher_logits),
                constant_tau,
                self._lower_bound(constant_tau),
            )
            # τ itself may be learned, and may carry a gradient.
            scale = tau / constant_tau
            teacher, student = teacher * scale, student * scale
        else:
            x, y = self._sharpness_proxies(student_logits, teacher_logits)
            teacher, student = self._proportional(x, y, tau)
        if self.stop_gradient is True:
            teacher, student = ops.stop_gradient(teacher), ops.stop_gradient(student)
        weight = teacher[..., 0] * student[..., 0]
        if self.stop_gradient == "weight":
            weight = ops.stop_gradient(weight)
        return TemperaturePair(student, teacher, weight)

    def _sharpness_proxies(self, student_logits, teacher_logits):
        """What the temperatures are proportional to: the teacher's, the student's."""
        both = teacher_logits, student_logits
        where = statistics.unmasked_by_both(*both)
        if self.rule == "std":
            return [statistics.std(logits, where=where) for logits in both]
        centered = [
            ops.max(statistics.center(logits, where=where), axis=-1, keepdims=True)
            for logits in both
        ]
        if self.rule == "centered":
            return centered
        raw = [ops.max(logits, axis=-1, keepdims=True) for logits in both]
        is_defined = ops.logical_and(raw[0] > 0, raw[1] > 0)
        return [
            ops.where(is_defined, *pair) for pair in zip(raw, centered, strict=True)
        ]

    def _proportional(self, x, y, tau):
        """Splits 2τ in the proportion x : y, with both at least the lower bound."""
        total = x + y
        # Where both models are constant there is nothing to equalize.
        is_defined = total > 0
        total = ops.where(is_defined, total, 1.0)
        lower_bound = self._lower_bound(tau)

        # Each by itself: `2τ - T_t` would lose the digits of a small T_s.
        def bounded_share(proxy):
            temperature = 2.0 * tau * ops.where(is_defined, proxy / total, 0.5)
            upper_bound = 2.0 * tau - lower_bound
            return ops.minimum(ops.maximum(temperature, lower_bound), upper_bound)

        return bounded_share(x), bounded_share(y)

    def _lower_bound(self, tau):
        # A learned or scheduled τ may fall below the `min_temperature`.
        bound = ops.convert_to_tensor(self.hyperparameter("min_temperature"))
        bound = ops.where(bound == AUTO_SENTINEL, self._auto_bound(tau), bound)
        return ops.maximum(MIN_RELATIVE_TEMPERATURE * tau, ops.minimum(bound, tau))

    def _auto_bound(self, tau):
        return 0.5 * tau if self.rule == "exact" else DEFAULT_MIN_TEMPERATURE

    def collapse_threshold(self):
        """The mean student temperature below which the student has collapsed.

        0 where the `min_temperature` is high enough, τ/4 or more, to rule that out.
        """
        tau = getattr(self._base, "temperature", None)
        tau = tau if isinstance(tau, float) else 0.0
        bound = self.min_temperature or 0.0
        if bound == "auto":
            bound = self._auto_bound(tau)
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
