"""A learned temperature that makes the student's task harder (CTKD)."""

import math
import numbers

import keras
from keras import ops

from keras_dtkd.core.hyperparameters import Hyperparameter
from keras_dtkd.functional.statistics import soft_log_probs
from keras_dtkd.temperatures.base import Temperature, TemperaturePair
from keras_dtkd.temperatures.gradient_reversal import GradientReversedWeight


@keras.saving.register_keras_serializable("keras_dtkd")
class Curriculum(Temperature):
    """Learns a temperature that raises the loss which the student lowers.

    `τ = minimum + span · sigmoid(raw)`, the same for teacher and student. The
    student's own optimizer trains `raw` through a reversed gradient, at a pace λ that
    grows over the first epochs,
    `λ_n = λ_0 + (λ_1 − λ_0) · ½ (1 + cos((1 + min(n, epochs) / epochs) π))`. The
    weight τ² carries gradient: it is what gives the loss a greatest value between
    the bounds, mostly below τ = 4.

    λ and `learning_rate` multiply the step of `raw`, not its gradient, for Adam
    would divide them out again (see `ReversedWeight`). Under plain SGD that is the
    same; momentum gathered at one λ is spent at the next. Adam moves `raw` by no more
    than its own learning rate a step: at 0.001, choose a `learning_rate` above 1.

    Args:
        minimum: Lower bound of τ. Positive. May be changed while training runs.
        span: Upper bound less lower bound. Positive. May be changed likewise.
        epochs: Epochs until λ is full, E_loops. At least 1.
        start: `raw` at the start; 1 gives τ = 15.6.
        instance: Whether each sample has its own τ: `raw` is then given by two dense
            layers with a relu between, from the probabilities of both models at
            temperature 1, always constants for the gradient.
        hidden: Units between these layers. Used with `instance` alone.
        learning_rate: Factor of the optimizer's steps. Not negative. May be changed
            while training runs; takes effect with the next epoch.
        strengths: λ at the beginning and in full, `(λ_0, λ_1)`. Not negative.
        excluded_from_weight_decay: Whether the optimizer's weight decay leaves `raw`
            (or the dense layers) alone. Otherwise it pulls it back to its start. Keras
            knows one list of exclusions, and this replaces yours: to have both, set it
            to `False` and exclude `rule.trainable_variables` beside your own.
        seed: Of the initial weights of the first dense layer. The second starts such
            that `raw` is `start` for every sample.

    Call arguments:
        student_logits: `(..., classes)`.
        teacher_logits: `(..., classes)`.

    Returns:
        `Temperatures` τ, τ and τ², float32: scalars; with `instance`, `(..., 1)`,
        `(..., 1)` and `(...)`. Outside of `fit`, where nobody counts epochs, λ is 1
        until `on_epoch_begin` is called.

    Raises:
        ValueError: `minimum` or `span` is not above 0, `epochs` or `hidden` below 1,
            `strengths` are no two numbers of at least 0, `learning_rate` is negative,
            `start` is no finite number.

    Reference:
        Li et al., "Curriculum Temperature for Knowledge Distillation", AAAI 2023,
        arXiv 2211.16231, equations 6 to 12. Differences from the authors' code:
        weight decay pulls their `raw` to 0 (τ = 11), which is off here; under several
        devices each of theirs learns its own τ, here there is one; their argument
        `t_end` is the span and not the end; their λ stands in the gradient. Their code
        for `instance` is not public: the number of units and what is detached are
        ours. Standardized logits drive τ to `minimum`.

    Example:

    >>> KD(temperature=Curriculum(epochs=10))
    """

    minimum = Hyperparameter(above=0.0)
    span = Hyperparameter(above=0.0)
    learning_rate = Hyperparameter(minimum=0.0)

    def __init__(
        self,
        minimum=1.0,
        span=20.0,
        epochs=10,
        start=1.0,
        instance=False,
        hidden=64,
        learning_rate=1.0,
        strengths=(0.0, 1.0),
        excluded_from_weight_decay=True,
        seed=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        _at_least("epochs", epochs, 1)
        _at_least("hidden", hidden, 1)
        _at_least("start", start)
        if not isinstance(strengths, list | tuple) or len(strengths) != 2:
            raise ValueError(
                "`Curriculum`: `strengths` must be two numbers. Received: "
                f"strengths={strengths!r}."
            )
        for strength in strengths:
            _at_least("strengths", strength, 0)
        self.minimum = minimum
        self.span = span
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.start = start
        self.instance = instance
        self.hidden = hidden
        self.strengths = tuple(strengths)
        self.excluded_from_weight_decay = excluded_from_weight_decay
        self.seed = seed
        self._parts: list[GradientReversedWeight] = []
        if not instance:
            self._parts = [self._part("raw", (), keras.initializers.Constant(start))]
            self.built = True

    def build(self, student_logits_shape, teacher_logits_shape):
        """Makes the two dense layers of `instance`."""
        inputs = student_logits_shape[-1] + teacher_logits_shape[-1]
        glorot = keras.initializers.GlorotUniform(self.seed)
        start = keras.initializers.Constant(self.start)
        self._parts = [
            self._part("kernel_1", (inputs, self.hidden), glorot),
            self._part("bias_1", (self.hidden,), "zeros"),
            self._part("kernel_2", (self.hidden, 1), "zeros"),
            self._part("bias_2", (1,), start),
        ]

    def _part(self, name, shape, initializer):
        decays = not self.excluded_from_weight_decay
        return GradientReversedWeight(
            shape, initializer, self.learning_rate, decays=decays, name=name
        )

    @property
    def raw(self):
        """Where training has led, as NumPy, outside of training.

        One number; with `instance`, the kernels and biases of both dense layers.
        """
        values = [part.numpy() for part in self._parts]
        return values if self.instance else float(values[0])

    def call(self, student_logits, teacher_logits):
        """τ, τ and τ²."""
        weights = [part.reversed() for part in self._parts]
        if self.instance:
            kernel_1, bias_1, kernel_2, bias_2 = weights
            seen = [
                ops.exp(soft_log_probs(ops.stop_gradient(logits)))
                for logits in (student_logits, teacher_logits)
            ]
            units = ops.relu(ops.matmul(ops.concatenate(seen, -1), kernel_1) + bias_1)
            raw = ops.matmul(units, kernel_2) + bias_2
        else:
            (raw,) = weights
        tau = self.hyperparameter("minimum") + self.hyperparameter(
            "span"
        ) * ops.sigmoid(raw)
        row = tau[..., 0] if self.instance else tau
        return TemperaturePair(tau, tau, row * row)

    def strength(self, epoch):
        """λ of an epoch, counted from 1."""
        first, full = self.strengths
        angle = (1.0 + min(epoch, self.epochs) / self.epochs) * math.pi
        return first + 0.5 * (full - first) * (1.0 + math.cos(angle))

    def on_epoch_begin(self, epoch, epochs):
        """Sets λ. The temperature stays where it is."""
        super().on_epoch_begin(epoch, epochs)
        for part in self._parts:
            part.set_pace(self.strength(epoch) * self.learning_rate)

    def variables_without_weight_decay(self):
        """The trained variables, if excluded from weight decay."""
        parts = self._parts if self.excluded_from_weight_decay else []
        return [part.theta for part in parts]

    def get_config(self):
        """The arguments that make this rule again."""
        return {
            **super().get_config(),
            "minimum": self.minimum,
            "span": self.span,
            "epochs": self.epochs,
            "start": self.start,
            "instance": self.instance,
            "hidden": self.hidden,
            "learning_rate": self.learning_rate,
            "strengths": self.strengths,
            "excluded_from_weight_decay": self.excluded_from_weight_decay,
            "seed": self.seed,
        }


def _at_least(name, value, least=None):
    number = isinstance(value, numbers.Real) and math.isfinite(value)
    if not number or (least is not None and value < least):
        rule = "finite number" + ("" if least is None else f" of at least {least}")
        raise ValueError(
            f"`Curriculum`: `{name}` must be a {rule}. Received: {name}={value!r}."
        )
