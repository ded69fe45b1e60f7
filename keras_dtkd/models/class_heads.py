"""Classifiers of single classes, all at once."""

import keras
from keras import ops

from keras_dtkd.core.arguments import check_in_range, check_positive_int


@keras.saving.register_keras_serializable("keras_dtkd")
class ClassHeads(keras.layers.Layer):
    """A multilayer perceptron for each class, from features of its own to one logit.

    Each head is `Dense → ReLU → Dropout` for each of `units`, and a linear layer. All
    heads are computed by one batched product a layer, however many classes there are.

    Args:
        units: Widths of the hidden layers. May be empty.
        dropout: Fraction of hidden values that is dropped, at least 0 and below 1.

    Call arguments:
        inputs: Features `(classes, batch, features)`.

    Returns:
        Logits `(batch, classes)`, float32.

    Raises:
        ValueError: An invalid argument, or inputs of another rank.

    Reference:
        Xue et al., "KDExplainer", arXiv 2105.04181: two hidden layers of 128 units and
        a dropout of 0.15, in the authors' code.
    """

    def __init__(self, units=(128, 128), dropout=0.15, **kwargs):
        super().__init__(**kwargs)
        caller = type(self).__name__
        units = units if isinstance(units, list | tuple) else (units,)
        self.units = tuple(check_positive_int(caller, "units", u) for u in units)
        self.dropout = check_in_range(caller, "dropout", dropout, 0, 1, inclusive=True)
        if dropout == 1:
            raise ValueError(
                f"`{caller}`: `dropout` must be below 1. Received: dropout=1."
            )
        # As `Dense` has it: it shows that the outputs are logits.
        self.activation = keras.activations.linear
        self.dropout_layer = keras.layers.Dropout(dropout, dtype=self.dtype_policy)

    def build(self, input_shape):
        """Adds a kernel and a bias a layer, with one slice for each class."""
        if len(input_shape) != 3 or None in (input_shape[0], input_shape[2]):
            raise ValueError(
                f"`{type(self).__name__}`: the features must have the shape (classes, "
                f"batch, features). Received: {tuple(input_shape)}."
            )
        classes, _, width = input_shape
        self.hidden_kernels, self.hidden_biases = [], []
        for number, units in enumerate(self.units, start=1):
            kernel, bias = self._add_weights(classes, width, units, f"hidden{number}_")
            self.hidden_kernels.append(kernel)
            self.hidden_biases.append(bias)
            width = units
        # The logits are float32 in mixed precision too.
        options = {"dtype": "float32", "autocast": False}
        self.kernel, self.bias = self._add_weights(classes, width, 1, **options)

    def _add_weights(self, classes, width, units, prefix="", **options):
        # Glorot's limit for a single head: Keras would count classes as inputs.
        limit = (6 / (width + units)) ** 0.5
        kernel = keras.initializers.RandomUniform(-limit, limit)
        shapes = (classes, width, units), (classes, 1, units)
        return (
            self.add_weight(shapes[0], kernel, name=f"{prefix}kernel", **options),
            self.add_weight(shapes[1], "zeros", name=f"{prefix}bias", **options),
        )

    def call(self, inputs, training=None):
        """Returns logits `(batch, classes)`."""
        x = inputs
        for kernel, bias in zip(self.hidden_kernels, self.hidden_biases, strict=True):
            x = ops.relu(ops.matmul(x, kernel) + bias)
            x = self.dropout_layer(x, training=training)
        x = ops.matmul(ops.cast(x, "float32"), self.kernel) + self.bias
        return ops.transpose(ops.squeeze(x, axis=-1))

    def compute_output_spec(self, inputs, training=None):
        """Logits `(batch, classes)`, float32."""
        return keras.KerasTensor((inputs.shape[1], inputs.shape[0]), "float32")

    def get_config(self):
        return {
            **super().get_config(),
            "units": list(self.units),
            "dropout": self.dropout,
        }
