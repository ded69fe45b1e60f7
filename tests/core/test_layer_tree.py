"""What a model's layers show of it."""

import keras
import pytest

from keras_dtkd.core.layer_tree import find_data_format

pytestmark = pytest.mark.single_backend
LAYERS = keras.layers
FIRST = {"data_format": "channels_first"}


@pytest.mark.parametrize(
    "layer",
    [
        lambda: LAYERS.Conv2D(2, 3, **FIRST),
        lambda: LAYERS.Conv1D(2, 3, **FIRST),
        lambda: LAYERS.DepthwiseConv2D(3, **FIRST),
        lambda: LAYERS.MaxPooling2D(**FIRST),
        lambda: LAYERS.GlobalAveragePooling2D(**FIRST),
        lambda: LAYERS.UpSampling2D(**FIRST),
    ],
)
def test_a_layer_of_maps_comes_before_flatten(layer):
    assert find_data_format([LAYERS.Flatten(), layer()]) == "channels_first"
    assert find_data_format([layer(), LAYERS.Flatten()]) == "channels_first"


def test_a_convolution_comes_before_what_may_get_no_map():
    layers = [LAYERS.Resizing(4, 4), LAYERS.Flatten(), LAYERS.Conv2D(2, 3, **FIRST)]
    assert find_data_format(layers) == "channels_first"


def test_without_such_layers_it_is_kerass_own():
    assert find_data_format([LAYERS.Dense(2)]) == keras.config.image_data_format()
    assert find_data_format([LAYERS.Flatten(**FIRST)]) == "channels_first"
