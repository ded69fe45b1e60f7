"""Attention from each task to the blocks whose outputs it mixes."""

import keras
from keras import ops

from keras_dtkd.core.arguments import check_in_range, check_positive_int
from keras_dtkd.functional.statistics import entropy, soft_log_probs

# Differences of `theta` up to 1e4 stay finite in float32 at this temperature, at which
# every softmax is one-hot already.
MIN_TEMPERATURE = 1e-6


@keras.saving.register_keras_serializable("keras_dtkd")
class TaskAttention(keras.layers.Layer):
    """Mixes the outputs of parent blocks, by weights that each child learns.

    `mix_i = Σ_j d_ij · output_j` with `d_i = softmax(θ_i / (scale · t))`, in float32.
    The attention `d` is a parameter: it is the same for all inputs.

    The weight is named `"theta"`. Weight decay makes the attention more uniform. A
    Distiller leaves `theta` out of it; for a `fit` without one call
    `optimizer.exclude_from_weight_decay(var_names=["theta"])` before `compile`.

    Args:
        children: Number of mixes. Positive.
        temperature: The temperature `t` at first. Positive. The variable
            `attention_temperature` holds it, and
            `keras_dtkd.callbacks.AttentionTemperature` changes it over the epochs.
        scale: Factor of the temperature. Positive.
        entropy_weight: Factor of the mean entropy of the rows of `d`, in nats, that is
            one of the layer's `losses` once, however often it is called. Not below 0.
        hard: Whether `d` is one-hot, at the greatest `θ` of each row, and not trained.

    Call arguments:
        inputs: A list of the parents' outputs, all of one shape `(batch, ...)`.

    Returns:
        A tensor `(children, batch, ...)`.

    Raises:
        ValueError: An invalid argument, or inputs of several shapes.

    Reference:
        Xue et al., "KDExplainer: A Task-oriented Attention Model for Explaining
        Knowledge Distillation", arXiv 2105.04181. The authors' code computes
        `π = softmax(θ / 0.5)` and `d ∝ π^(1/t)`, which is the same distribution, from
        exponentials that underflow.

    Example:

    >>> attention = TaskAttention(children=4)
    >>> mixes = attention([block(x) for block in blocks])
    >>> attention.attention()  # (4, number of blocks)
    """

    def __init__(
        self,
        children,
        temperature=1.0,
        scale=0.5,
        entropy_weight=0.0,
        hard=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        caller = type(self).__name__
        self.children = check_positive_int(caller, "children", children)
        self.temperature = check_in_range(caller, "temperature", temperature, 0.0)
        self.scale = check_in_range(caller, "scale", scale, 0.0)
        self.entropy_weight = check_in_range(
            caller, "entropy_weight", entropy_weight, 0.0, inclusive=True
        )
        self.hard = bool(hard)

    def build(self, input_shape):
        """Adds `theta`, `(children, parents)`, and the temperature."""
        shapes = list(input_shape)
        if not shapes or any(tuple(s) != tuple(shapes[0]) for s in shapes):
            raise ValueError(
                f"`{type(self).__name__}`: the blocks of a level must have outputs of "
                f"one shape. Received: {', '.join(map(str, shapes))}."
            )
        # In half precision, sums of exponentials are too coarse.
        options = {"dtype": "float32", "autocast": False}
        self.theta = self.add_weight(
            (self.children, len(shapes)),
            keras.initializers.RandomUniform(0.0, 1.0),
            trainable=not self.hard,
            # Unlike a loss of `call` it counts once in a model that is called twice.
            regularizer=self._penalize_entropy if self.entropy_weight else None,
            name="theta",
            **options,
        )
        self.attention_temperature = self.add_weight(
            (),
            keras.initializers.Constant(self.temperature),
            trainable=False,
            name="attention_temperature",
            **options,
        )

    def log_attention(self):
        """`log d`, a float32 tensor `(children, parents)`."""
        t = ops.maximum(self.attention_temperature, MIN_TEMPERATURE)
        return soft_log_probs(self.theta, self.scale * t)

    def attention(self):
        """The attention `d`, a float32 tensor `(children, parents)`."""
        if self.hard:
            choice = ops.argmax(self.theta, axis=-1)
            return ops.one_hot(choice, self.theta.shape[-1], dtype="float32")
        return ops.exp(self.log_attention())

    def entropy(self, normalized=False):
        """The mean entropy of the rows of `d`, in nats, or in shares of its maximum."""
        if self.hard:
            return ops.zeros((), "float32")
        return ops.mean(entropy(self.log_attention(), normalized))

    def variables_without_weight_decay(self):
        """`theta`: a Distiller leaves it out of its optimizer's weight decay."""
        return [self.theta] if self.built else []

    def call(self, inputs):
        """Returns the mixes, `(children, batch, ...)`."""
        outputs = ops.stack(inputs)
        return ops.tensordot(ops.cast(self.attention(), outputs.dtype), outputs, 1)

    def _penalize_entropy(self, _):
        return self.entropy_weight * self.entropy()

    def compute_output_shape(self, input_shape):
        """`(children, batch, ...)`."""
        return (self.children, *input_shape[0])

    def get_config(self):
        return {
            **super().get_config(),
            "children": self.children,
            "temperature": self.temperature,
            "scale": self.scale,
            "entropy_weight": self.entropy_weight,
            "hard": self.hard,
        }
