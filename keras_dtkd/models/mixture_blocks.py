"""Blocks of a hierarchical mixture."""

import keras
from keras import layers

from keras_dtkd.core.arguments import check_positive_int

# PyTorch's 0.1, and that of this library's networks. After Keras's 0.99, a training of
# a few hundred steps has statistics of its first ones.
MOMENTUM = 0.9


def conv_block(filters=64, pool=True, data_format=None, dtype=None):
    """Two 3x3 convolutions, each with batch norm and ReLU, and a 2x2 max pooling.

    Args:
        filters: Channels of both convolutions. Positive.
        pool: Whether the block ends in the pooling.
        data_format: `"channels_last"` or `"channels_first"`. `None` for
            `keras.config.image_data_format()`.
        dtype: Dtype policy of the layers. `None` for the global one.

    Returns:
        A `keras.Sequential`, not built, for `HierarchicalMixture(block=...)`.

    Raises:
        ValueError: `filters` is not positive.

    Reference:
        Xue et al., "KDExplainer", arXiv 2105.04181; 64, 64 and 32 filters in the three
        levels of the authors' code.
    """
    filters = check_positive_int("conv_block", "filters", filters)
    data_format = data_format or keras.config.image_data_format()
    axis = -1 if data_format == "channels_last" else 1
    both = {"data_format": data_format, "dtype": dtype}
    conv = {"padding": "same", "use_bias": False, **both}
    steps: list = []
    for number in (1, 2):
        steps += [
            layers.Conv2D(filters, 3, name=f"conv{number}", **conv),
            layers.BatchNormalization(axis, MOMENTUM, name=f"bn{number}", dtype=dtype),
            layers.ReLU(name=f"relu{number}", dtype=dtype),
        ]
    if pool:
        steps.append(layers.MaxPooling2D(2, name="pool", **both))
    return keras.Sequential(steps, name="conv_block")


def dense_block(units=32, normalize=False):
    """A dense layer and ReLU, with batch norm between them if `normalize`.

    Args:
        units: Width of the layer. Positive.
        normalize: Whether there is a batch norm. With it, a block cannot make up for a
            small attention by large outputs.

    Returns:
        A `keras.Sequential`, not built, for `HierarchicalMixture(block=...)`.

    Raises:
        ValueError: `units` is not positive.
    """
    units = check_positive_int("dense_block", "units", units)
    steps: list = [layers.Dense(units, name="dense")]
    if normalize:
        steps.append(layers.BatchNormalization(momentum=MOMENTUM, name="bn"))
    return keras.Sequential([*steps, layers.ReLU(name="relu")], name="dense_block")
