"""A learned temperature that makes the student's task harder (CTKD)."""

import math

import keras
from keras import ops

from keras_dtkd.core.arguments import check_in_range, check_number, check_positive_int
from keras_dtkd.core.hyperparameters import Hyperparameter
from keras_dtkd.functional.statistics import soft_log_probs
from keras_dtkd.temperatures.base import Temperature, TemperaturePair
from keras_dtkd.temperatures.gradient_reversal import GradientReversedWeight


@keras.saving.register_keras_serializable("keras_dtkd")
class Curriculum(Temperature):
    """Learns a temperature that raises the loss which the student lowers.

    `τ = min_temperature + temperature_span · sigmoid(raw)`, the same for teacher and
    student. The student's optimizer trains `raw` through a reversed gradient. Its
    steps are scaled by a λ that grows over the first epochs,
    `λ_n = λ_0 + (λ_1 − λ_0) · ½ (1 + cos((1 + min(n, epochs) / epochs) π))`. The
    weight τ² carries gradient: it gives the loss a maximum between the bounds, mostly
    below τ = 4.

    λ and `learning_rate` multiply the step of `raw` and not its gradient, because Adam
    would divide them out again (see `GradientReversedWeight`). Under plain SGD the two
    are equal; momentum accumulated at one λ is applied at the next. Adam moves `raw` by
    at most its own learning rate a step: at 0.001, choose a `learning_rate` above 1.

    Args:
        min_temperature: Lower bound of τ. Positive. Can be changed during training.
        temperature_span: Upper bound minus lower bound of τ. Positive. Can be changed
            during training.
        epochs: Number of epochs until λ reaches λ_1, E_loops. At least 1.
        initial_raw: Initial value of `raw`; 1 gives τ = 15.6.
        per_sample: Whether each sample has its own τ. `raw` is then the output of two
            dense layers with a relu between them. Their input is the probabilities of
            both models at temperature 1, without gradient.
        hidden: Number of units of the first dense layer. Only used with `per_sample`.
        learning_rate: Factor of the optimizer's steps. Not negative. Can be changed
            during training; takes effect at the next epoch.
        lambda_range: Initial and final λ, `(λ_0, λ_1)`. Not negative.
        excluded_from_weight_decay: Whether `raw` (or the dense layers) is excluded from
            the optimizer's weight decay, which else pulls it back to its initial value.
            This exclusion replaces yours: to have both, pass `False` and exclude
            `temperature.trainable_variables` together with your own variables.
        seed: Seed of the initial weights of the first dense layer. The second layer
            starts such that `raw` is `initial_raw` for every sample.

    Call arguments:
        student_logits, teacher_logits: `(..., classes)`.

    Returns:
        `TemperaturePair` of τ, τ and τ²: scalars; with `per_sample`, of shapes
        `(..., 1)`, `(..., 1)` and `(...)`. λ is 1 until a `fit` begins.

    Raises:
        ValueError: `min_temperature` or `temperature_span` is not above 0, `epochs` or
            `hidden` is below 1, `lambda_range` is not two numbers of at least 0,
            `learning_rate` is negative, `initial_raw` is not a finite number.

    Reference:
        Li et al., "Curriculum Temperature for Knowledge Distillation", AAAI 2023,
        arXiv 2211.16231, equations 6 to 12. Differences from the authors' code: there,
        weight decay pulls `raw` to 0 (τ = 11), here it is excluded; there, each
        of several devices learns its own τ, here they share one; their argument
        `t_end` is the span and not the end; their λ multiplies the gradient. Their code
        for a τ per sample is not public: the number of units and what is detached are
        our choice. Standardized logits drive τ to `min_temperature`.

    Example:

    >>> KD(temperature=Curriculum(epochs=10))
    """

    min_temperature = Hyperparameter(greater_than=0.0)
    temperature_span = Hyperparameter(greater_than=0.0)
    learning_rate = Hyperparameter(minimum=0.0)

    def __init__(
        self,
        min_temperature=1.0,
        temperature_span=20.0,
        epochs=10,
        initial_raw=1.0,
        per_sample=False,
        hidden=64,
        learning_rate=1.0,
        lambda_range=(0.0, 1.0),
        excluded_from_weight_decay=True,
        seed=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not isinstance(lambda_range, list | tuple) or len(lambda_range) != 2:
            raise ValueError(
                "`Curriculum`: `lambda_range` must be two numbers. Received: "
                f"lambda_range={lambda_range!r}."
            )
        for lambda_ in lambda_range:
            check_in_range("Curriculum", "lambda_range", lambda_, 0, inclusive=True)
        self.min_temperature = min_temperature
        self.temperature_span = temperature_span
        self.learning_rate = learning_rate
        check_in_range("Curriculum", "epochs", epochs, 1, inclusive=True)
        self.epochs = epochs
        self._initial_raw = check_number("Curriculum", "initial_raw", initial_raw)
        self._per_sample = per_sample
        self.hidden = check_positive_int("Curriculum", "hidden", hidden)
        self.lambda_range = tuple(lambda_range)
        self.excluded_from_weight_decay = excluded_from_weight_decay
        self.seed = seed
        self._reversed_weights: list[GradientReversedWeight] = []
        if not per_sample:
            initializer = keras.initializers.Constant(initial_raw)
            self._reversed_weights = [self._reversed_weight("raw", (), initializer)]
            self.built = True

    def build(self, student_logits_shape, teacher_logits_shape):
        """Creates the two dense layers of `per_sample`."""
        inputs = student_logits_shape[-1] + teacher_logits_shape[-1]
        glorot = keras.initializers.GlorotUniform(self.seed)
        constant = keras.initializers.Constant(self.initial_raw)
        self._reversed_weights = [
            self._reversed_weight("kernel_1", (inputs, self.hidden), glorot),
            self._reversed_weight("bias_1", (self.hidden,), "zeros"),
            self._reversed_weight("kernel_2", (self.hidden, 1), "zeros"),
            self._reversed_weight("bias_2", (1,), constant),
        ]

    def _reversed_weight(self, name, shape, initializer):
        return GradientReversedWeight(
            shape,
            initializer,
            self.learning_rate,
            weight_decay_to_offset=not self.excluded_from_weight_decay,
            name=name,
        )

    @property
    def initial_raw(self):
        """Where `raw` started: it cannot be changed later."""
        return self._initial_raw

    @property
    def per_sample(self):
        """Whether each sample has its own τ: it cannot be changed later."""
        return self._per_sample

    @property
    def raw_temperature(self):
        """The current `raw` as NumPy, outside of training.

        One number; with `per_sample`, the kernels and biases of both dense layers.
        """
        values = [weight.numpy() for weight in self._reversed_weights]
        return values if self.per_sample else float(values[0])

    def call(self, student_logits, teacher_logits):
        weights = [weight.value() for weight in self._reversed_weights]
        if self.per_sample:
            kernel_1, bias_1, kernel_2, bias_2 = weights
            probs = [
                ops.exp(soft_log_probs(ops.stop_gradient(logits)))
                for logits in (student_logits, teacher_logits)
            ]
            units = ops.relu(ops.matmul(ops.concatenate(probs, -1), kernel_1) + bias_1)
            raw = ops.matmul(units, kernel_2) + bias_2
        else:
            (raw,) = weights
        low = self.hyperparameter("min_temperature")
        tau = low + self.hyperparameter("temperature_span") * ops.sigmoid(raw)
        return TemperaturePair.equal(tau)

    def lambda_at(self, epoch):
        """λ of an epoch, counted from 1."""
        initial, final = self.lambda_range
        angle = (1.0 + min(epoch, self.epochs) / self.epochs) * math.pi
        return initial + 0.5 * (final - initial) * (1.0 + math.cos(angle))

    def on_epoch_begin(self, epoch, epochs):
        super().on_epoch_begin(epoch, epochs)
        for weight in self._reversed_weights:
            weight.set_step_scale(self.lambda_at(epoch) * self.learning_rate)

    def variables_without_weight_decay(self):
        if not self.excluded_from_weight_decay:
            return []
        return [weight.ascent_variable for weight in self._reversed_weights]
