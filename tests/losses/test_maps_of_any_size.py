"""Losses on maps whose height and width a compiled step does not know."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import Distiller, losses
from tests.pyramid_detector import data

X, Y = data(4)


@keras.saving.register_keras_serializable("tests")
class AnySize(keras.Model):
    """A detector of images of any size, with a loss of its own."""

    bounding_box_format = "xyxy"

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        return ops.mean(y_pred**2)


def build_for_any_size(width, seed, strides=1):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((None, None, 3))
    options = {"padding": "same", "strides": strides, "name": "map"}
    maps = keras.layers.Conv2D(width, 3, activation="relu", **options)(inputs)
    outputs = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(maps))
    model = AnySize(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.0))
    return model


def fit_any_size(loss, data, strides=1):
    keras.utils.set_random_seed(0)
    student = build_for_any_size(3, 1, strides)
    d = Distiller(build_for_any_size(5, 0), student, loss)
    return d.fit(data, verbose=0).history[loss.name]


@pytest.mark.graph
@pytest.mark.parametrize(
    "build_loss",
    [
        lambda: losses.FitNet(["map"]),
        lambda: losses.FeatureMSE(["map"], "sum"),
        lambda: losses.MGD(["map"], mask_ratio=0.0),
        lambda: losses.FGD(["map"]),
    ],
)
def test_maps_may_have_a_size_that_tensorflow_does_not_know(build_loss):
    tf = pytest.importorskip("tensorflow")
    known = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)
    shapes = keras.tree.map_structure(lambda a: (None, *a.shape[1:]), (X, Y))
    shapes = (None, None, None, 3), shapes[1]
    spec = keras.tree.map_structure_up_to(
        (X, Y), lambda array, shape: tf.TensorSpec(shape, array.dtype), (X, Y), shapes
    )
    unknown = tf.data.Dataset.from_generator(lambda: iter(known), output_signature=spec)
    np.testing.assert_allclose(
        *(fit_any_size(build_loss(), data) for data in (known, unknown)), rtol=1e-5
    )
    if keras.backend.backend() == "tensorflow":
        with pytest.raises(ValueError, match="cannot be resized"):
            fit_any_size(build_loss(), unknown, strides=2)
