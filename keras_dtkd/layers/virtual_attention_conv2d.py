"""A convolution with attention between blocks of its filters."""

import keras
import numpy as np
from keras import ops

from keras_dtkd.core.arguments import check_in_range, check_positive_int
from keras_dtkd.functional.statistics import entropy


@keras.saving.register_keras_serializable("keras_dtkd")
class VirtualAttentionConv2D(keras.layers.Conv2D):
    """A `Conv2D` whose kernel is scaled by attention between blocks of channels.

    The input channels are split into P blocks and the filters into Q blocks. With one
    trainable number `theta[q, p]` for each pair of blocks,

        a = softmax(theta / temperature)            over p, in float32
        kernel'[..., p, q] = kernel[..., p, q] · P · a[q, p]

    and the convolution has kernel'. Equal attention (`theta` = 0, as it is initialized)
    is the plain convolution. Kernel' does not depend on the inputs, so `layers.fold`
    makes a plain `Conv2D` of the trained layer.

    The penalty `entropy_weight · mean_q H(a_q)`, in nats, is one of the layer's
    `losses` once, however often the layer is called. It has no gradient at equal
    attention, its maximum.

    Blocks are of equal size, or the first ones have one channel more. Where there are
    fewer than `blocks` channels, each is a block. With `groups`, the `C_in / groups`
    input channels of a group and its `filters / groups` filters are split each, and
    attention is among the input blocks of the same group: `theta` is
    `(groups · Q, P)`, the rows of the first group first.

    Weight decay pulls attention towards equal. A Distiller leaves `theta` out of it;
    for a `fit` without one call
    `optimizer.exclude_from_weight_decay(var_names=["theta"])` before `compile`.

    Args:
        filters, kernel_size: As of `keras.layers.Conv2D`, like all others of its
            arguments.
        blocks: Number of blocks, of input channels and of filters. At least 1.
        attention_temperature: Temperature of the softmax, above 0: its first value.
        entropy_weight: Weight of the penalty, at least 0. 0: none.
        attention_initializer: Initializer of `theta`.

    Attributes:
        theta: Trainable weight of shape `(groups · Q, P)`, float32.
        attention_temperature: Non-trainable scalar variable, float32. What is assigned
            to it takes effect without recompiling; under JAX assign it when an epoch
            begins.

    Raises:
        ValueError: A number out of range.

    Reference:
        A *reconstruction* of the virtual attention module (VAM) of Xue et al.,
        "KDExplainer: A Task-oriented Attention Model for Explaining Knowledge
        Distillation", arXiv 2105.04181. The paper has blocks of filters with attention
        between them, a temperature, and an entropy penalty; its equation is not
        public, nor is code of it. The form above is this library's own.

    Example:

    >>> layers.VirtualAttentionConv2D(64, 3, padding="same", entropy_weight=0.01)
    """

    def __init__(
        self,
        filters,
        kernel_size,
        *args,
        blocks=4,
        attention_temperature=1.0,
        entropy_weight=0.0,
        attention_initializer="zeros",
        **kwargs,
    ):
        super().__init__(filters, kernel_size, *args, **kwargs)
        name = "VirtualAttentionConv2D"
        self.blocks = check_positive_int(name, "blocks", blocks)
        self.entropy_weight = check_in_range(
            name, "entropy_weight", entropy_weight, 0, inclusive=True
        )
        self.attention_initializer = keras.initializers.get(attention_initializer)
        # The number: JAX empties variables while `fit` runs.
        self.initial_temperature = check_in_range(
            name, "attention_temperature", attention_temperature, 0
        )
        self.attention_temperature = self.add_weight(
            (),
            keras.initializers.Constant(attention_temperature),
            dtype="float32",
            trainable=False,
            autocast=False,
            name="attention_temperature",
        )

    def add_weight(self, *args, **kwargs):
        """As of `keras.layers.Layer`, but the kernel is not cast when it is read."""
        if kwargs.get("name") == "kernel":
            # Scaled as it is, and then cast: so is the folded kernel.
            kwargs["autocast"] = False
        return super().add_weight(*args, **kwargs)

    def build(self, input_shape):
        """As of `keras.layers.Conv2D`, and `theta`."""
        super().build(input_shape)
        *_, channels, filters = self.kernel.shape
        inputs = _assign_blocks(channels, self.blocks)
        group = _assign_blocks(filters // self.groups, self.blocks)
        count = group[-1] + 1
        outputs = [index + count * g for g in range(self.groups) for index in group]
        self.input_blocks = np.array(inputs, "int32")
        self.filter_blocks = np.array(outputs, "int32")
        self.theta = self.add_weight(
            (int(outputs[-1]) + 1, int(inputs[-1]) + 1),
            self.attention_initializer,
            # Unlike a loss of `call` it counts once in a layer that is called twice.
            regularizer=self._penalize_entropy if self.entropy_weight else None,
            dtype="float32",
            autocast=False,
            name="theta",
        )

    def variables_without_weight_decay(self):
        """`theta`: a Distiller leaves it out of its optimizer's weight decay."""
        return [self.theta] if self.built else []

    def convolution_op(self, inputs, kernel):
        """The convolution with the scaled kernel."""
        kernel = ops.cast(self._scale(kernel), self.compute_dtype)
        return super().convolution_op(inputs, kernel)

    def attention(self):
        """The attention, `(groups · Q, P)`, float32. Each row has the sum 1."""
        # Keras warns of a softmax over one block.
        return ops.exp(ops.log_softmax(self._logits(self.theta), axis=-1))

    def entropy(self):
        """The mean over the rows of the attention's entropy, in nats: a scalar."""
        return self._compute_entropy(self.theta)

    def compute_kernel(self):
        """The scaled kernel, in float32 or what is wider of the kernel's own type."""
        return self._scale(self.kernel)

    def _logits(self, theta):
        # Every softmax is one-hot there already, and float32 still finite.
        temperature = ops.maximum(self.attention_temperature, 1e-6)
        return ops.convert_to_tensor(theta) / temperature

    def _compute_entropy(self, theta):
        return ops.mean(entropy(ops.log_softmax(self._logits(theta), axis=-1)))

    def _penalize_entropy(self, theta):
        return self.entropy_weight * self._compute_entropy(theta)

    def _scale(self, kernel):
        logits = self._logits(self.theta)
        logits = logits - ops.stop_gradient(ops.max(logits, axis=-1, keepdims=True))
        weights = ops.exp(logits)
        total = ops.sum(weights, axis=-1, keepdims=True)
        # 1 in every bit where attention is equal. Two tensors of one shape: otherwise
        # torch and XLA multiply with the reciprocal.
        scale = weights * (ops.full_like(total, weights.shape[-1]) / total)
        scale = ops.take(scale, self.filter_blocks, axis=0)
        scale = ops.transpose(ops.take(scale, self.input_blocks, axis=1))
        dtype = keras.backend.result_type(kernel.dtype, "float32")
        return ops.cast(kernel, dtype) * ops.cast(scale, dtype)

    def save_own_variables(self, store):
        """As of `keras.layers.Conv2D`, with the attention's."""
        super().save_own_variables(store)
        store["attention_temperature"] = self.attention_temperature
        if self.built:
            store["theta"] = self.theta

    def load_own_variables(self, store):
        """As of `keras.layers.Conv2D`, with the attention's."""
        super().load_own_variables(store)
        self.attention_temperature.assign(store["attention_temperature"])
        if self.built:
            self.theta.assign(store["theta"])

    def get_config(self):
        initializer = keras.initializers.serialize(self.attention_initializer)
        return {
            **super().get_config(),
            "blocks": self.blocks,
            "attention_temperature": self.initial_temperature,
            "entropy_weight": self.entropy_weight,
            "attention_initializer": initializer,
        }


def _assign_blocks(channels, blocks):
    """The number of the block of each channel: blocks of equal size, within one."""
    parts = np.array_split(np.arange(channels), min(blocks, channels))
    return [number for number, part in enumerate(parts) for _ in part]
