"""A model whose own preprocessor converts images is not attacked at other ones."""

import keras
import numpy as np
import pytest

from keras_dtkd import attacks
from keras_dtkd.callbacks import RobustAccuracy
from tests.hub_detectors import build_retinanet, make_images
from tests.tiny_models import close, numbers

keras_hub = pytest.importorskip("keras_hub", reason="KerasHub is not installed")

pytestmark = pytest.mark.single_backend
SIDE, CLASSES = 8, 3
Y = np.arange(12) % CLASSES
X = (20 + 80 * Y[:, None, None, None] + np.zeros((12, SIDE, SIDE, 3))).astype("float32")


def classifier():
    converter = keras_hub.layers.ImageConverter(
        image_size=(SIDE, SIDE), scale=1 / 255, offset=-0.5
    )
    model = keras_hub.models.ImageClassifier(
        keras_hub.models.VGGBackbone([1], [4], image_shape=(SIDE, SIDE, 3)),
        num_classes=CLASSES,
        preprocessor=keras_hub.models.ImageClassifierPreprocessor(converter),
    )
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def detector():
    layer = keras_hub.layers.RetinaNetImageConverter(
        image_size=(32, 32), scale=1 / 255, bounding_box_format="yxyx"
    )
    preprocessor = keras_hub.models.RetinaNetObjectDetectorPreprocessor(layer)
    return build_retinanet(preprocessor=preprocessor)


@pytest.mark.parametrize("attack", ["fgsm", "pgd", "di2_fgsm"])
@pytest.mark.parametrize("build", [classifier, detector])
def test_images_that_are_not_converted_are_refused(build, attack, tmp_path):
    images, boxes = make_images(2)
    x, y = (X, Y) if build is classifier else (255 * images, boxes)
    match = "model's preprocessor converts the images.*model.preprocessor = None"
    with pytest.raises(ValueError, match=f"`{attack}`: the {match}"):
        getattr(attacks, attack)(build(), x, y, 8.0, range=(0, 255))
    with pytest.raises(ValueError, match=f"`store`: the {match}"):
        options = {"attack": attack, "range": (0, 255), "verbose": 0}
        attacks.store(build(), x, y, tmp_path / "folder", 8.0, **options)


def test_the_callback_refuses_them_before_the_first_step():
    model = classifier()
    before = numbers(model)
    robust = RobustAccuracy(X, Y, 1.0, range=(0, 255))
    with pytest.raises(ValueError, match="`RobustAccuracy`: the model's preprocessor"):
        model.fit(X, Y, verbose=0, callbacks=[robust])
    assert close(numbers(model), before, 0)


def test_converted_images_give_the_accuracy_of_evaluate():
    model = classifier()
    model.fit(X, Y, batch_size=4, epochs=2, verbose=0)
    accuracy = model.evaluate(X, Y, verbose=0, return_dict=True)["accuracy"]
    x = keras.ops.convert_to_numpy(model.preprocessor(X))
    model.preprocessor = None
    options = {"attack": "fgsm", "range": (-0.5, 0.5)}
    result = attacks.robust_accuracy(model, x, Y, 1 / 255, **options)
    assert result.clean_accuracy == pytest.approx(accuracy)
