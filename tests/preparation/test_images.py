"""KerasHub's preprocessors of images are applied as in the student's own fit."""

import types

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller, diagnose, teachers, views
from keras_dtkd.datasets import with_columns
from keras_dtkd.losses import KD, DenseBoxKD, DenseClassKD
from keras_dtkd.preparation import images
from keras_dtkd.teachers import with_sample_ids
from tests.hub_detectors import build_retinanet, make_images
from tests.tiny_models import numbers

keras_hub = pytest.importorskip("keras_hub", reason="KerasHub is not installed")

IMAGES, LABELS = make_images(size=48)
IMAGES = (255 * IMAGES).astype("uint8")
OPTIONS = {"batch_size": 2, "shuffle": False, "verbose": 0}


def preprocessor(scale=1 / 255):
    """From 48 by 48 pixels of 8 bits to the detectors' 32 by 32 floats."""
    converter = keras_hub.layers.RetinaNetImageConverter(
        image_size=(32, 32), scale=scale, bounding_box_format="yxyx"
    )
    return keras_hub.models.RetinaNetObjectDetectorPreprocessor(converter)


def build(seed, **kwargs):
    return build_retinanet(seed, preprocessor=preprocessor(**kwargs))


def make_distiller(weight=1.0):
    losses = DenseClassKD(weight=weight), DenseBoxKD(threshold=0.4, weight=weight)
    return Distiller(build(0), build(1), list(losses))


def test_images_become_arrays_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr(images, "BATCH_SIZE", 3)
    layer = preprocessor()
    student = types.SimpleNamespace(
        preprocess_samples=lambda x, y, w: layer(x, y=y, sample_weight=w),
    )
    kwargs = {"sample_weight": np.arange(4.0), "validation_data": (IMAGES, LABELS)}
    x, y = images.preprocess(student, IMAGES, LABELS, kwargs)
    at_once = layer(IMAGES, y=LABELS)
    expected = keras.tree.map_structure(keras.ops.convert_to_numpy, at_once)
    for found in ((x, y), kwargs["validation_data"]):
        leaves = map(keras.tree.flatten, (found, expected))
        for one, other in zip(*leaves, strict=True):
            assert isinstance(one, np.ndarray)
            np.testing.assert_allclose(one, other, rtol=1e-6)
    np.testing.assert_array_equal(kwargs["sample_weight"], np.arange(4))


@pytest.mark.single_backend
def test_images_and_boxes_are_converted_as_in_the_students_own_fit():
    d, prepared = make_distiller(), make_distiller()
    converted = prepared.student.preprocess_samples(IMAGES, LABELS)
    x, y = keras.tree.map_structure(keras.ops.convert_to_numpy, converted)
    assert x.shape == (4, 32, 32, 3) and x.max() <= 1 and y["boxes"].max() <= 32
    for model in (prepared.student, prepared.teacher):
        model.preprocessor = None
    validation = {"validation_data": (IMAGES, LABELS)}
    logs = d.fit(IMAGES, LABELS, **validation, **OPTIONS).history
    expected = prepared.fit(x, y, validation_data=(x, y), **OPTIONS).history
    assert set(logs) == set(expected)
    for name, values in expected.items():
        assert logs[name] == pytest.approx(values, rel=1e-5), name
    for one, other in zip(numbers(d), numbers(prepared), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    boxes, reference = d.predict(IMAGES, verbose=0), prepared.predict(x, verbose=0)
    np.testing.assert_allclose(boxes["boxes"], reference["boxes"], atol=1e-2)


@pytest.mark.single_backend
def test_batches_of_any_kind_are_converted():
    d = make_distiller()

    def batches():
        for rows in (slice(2), slice(2, 4)):
            yield IMAGES[rows], {n: values[rows] for n, values in LABELS.items()}

    weights = np.zeros(4)
    logs = d.fit(IMAGES, LABELS, sample_weight=weights, **OPTIONS).history
    assert logs["dense_class_kd"] == [0.0]
    assert d.fit(batches(), verbose=0).history["dense_class_kd"] > [0.0]
    assert d.evaluate(IMAGES, LABELS, batch_size=2, verbose=0)[0] > 0
    d.train_on_batch(IMAGES, LABELS)
    assert diagnose(d.teacher, d.student, (IMAGES, LABELS), DenseClassKD(), verbose=0)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        return IMAGES, LABELS


@pytest.mark.single_backend
def test_data_that_cannot_be_converted_is_refused():
    with pytest.raises(ValueError, match="`Batches`.*student.preprocessor = None"):
        make_distiller().fit(Batches(), verbose=0)


@pytest.mark.single_backend
def test_a_teacher_of_other_images_is_refused():
    d = Distiller(build(0, scale=1.0), build(1), DenseClassKD())
    with pytest.raises(ValueError, match="scale is 1.0 in the teacher's"):
        d.fit(IMAGES, LABELS, **OPTIONS)


@pytest.mark.single_backend
def test_a_preprocessor_of_the_teacher_alone_is_a_warning():
    d = Distiller(build(0), build_retinanet(1), DenseClassKD())
    x, y = make_images()
    with pytest.warns(UserWarning, match="preprocessor for images and the student"):
        d.fit(x, y, **OPTIONS)


def classifier(seed, scale=1 / 255, size=8):
    keras.utils.set_random_seed(seed)
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64],
        stackwise_num_blocks=[1],
        stackwise_num_strides=[1],
        block_type="basic_block",
        image_shape=(size, size, 3),
    )
    converter = keras_hub.layers.ResNetImageConverter(
        image_size=(size, size), scale=scale
    )
    own = keras_hub.models.ResNetImageClassifierPreprocessor(converter)
    return keras_hub.models.ResNetImageClassifier(
        backbone, num_classes=3, preprocessor=own
    )


@pytest.mark.single_backend
def test_classifiers_are_trained_on_what_they_predict_on():
    d = Distiller(classifier(0), classifier(1), KD())
    # Libraries round resized integers each in its own way.
    x = IMAGES.astype("float32")
    d.fit(x, LABELS["labels"][:, 0], **OPTIONS)
    expected = d.student.predict(x, verbose=0)
    found = d.predict(x, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


CLASSES = LABELS["labels"][:, 0]
FLOATS = IMAGES.astype("float32")


@pytest.mark.single_backend
def test_columns_and_sample_ids_stay_with_their_images():
    first, second = (Distiller(classifier(0), classifier(1), KD()) for _ in "ab")
    first.fit(FLOATS, CLASSES, **OPTIONS)
    x = with_columns(with_sample_ids(FLOATS), other=np.arange(4.0), images=FLOATS)
    second.fit(x, CLASSES, validation_data=(x, CLASSES), **OPTIONS)
    for one, other in zip(numbers(first), numbers(second), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    tf = pytest.importorskip("tensorflow")
    dataset = tf.data.Dataset.from_tensor_slices((x, CLASSES)).batch(2)
    third = Distiller(classifier(0), classifier(1), KD())
    third.fit(dataset, verbose=0)
    for one, other in zip(numbers(first), numbers(third), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    function = lambda x, y, w: (x + 1, y)  # noqa: E731
    model = types.SimpleNamespace(preprocess_samples=function)
    found, _ = images.preprocess(model, x, CLASSES, {})
    np.testing.assert_array_equal(found["inputs"], FLOATS + 1)
    np.testing.assert_array_equal(found["sample_ids"], np.arange(4))
    np.testing.assert_array_equal(found["columns"]["images"], FLOATS)


@pytest.mark.single_backend
def test_a_view_of_images_that_are_not_converted_is_refused():
    loss = KD(view="adversarial")
    d = Distiller(classifier(0), classifier(1), loss, views=views.Stored("adversarial"))
    with pytest.raises(ValueError, match="not the column 'adversarial'.*= None"):
        d.fit(with_columns(FLOATS, adversarial=FLOATS), CLASSES, **OPTIONS)
    prepared = d.student.preprocess_samples(FLOATS)
    prepared = keras.ops.convert_to_numpy(prepared)
    logs = d.fit(with_columns(FLOATS, adversarial=prepared), CLASSES, **OPTIONS)
    assert np.isfinite(logs.history["kd"]).all()


@pytest.mark.single_backend
def test_stored_outputs_are_those_of_the_teachers_own_predict(tmp_path):
    teacher = classifier(0)

    def batches():
        yield from ((FLOATS[rows], CLASSES[rows]) for rows in (slice(2), slice(2, 4)))

    expected = teacher.predict(FLOATS, verbose=0)
    for name, x in (("arrays", FLOATS), ("batches", batches())):
        stored = teachers.store(teacher, x, tmp_path / name, verbose=0)
        found = keras.ops.convert_to_numpy(stored.outputs(None, np.arange(4)))
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    live, trained = Distiller(teacher, classifier(1)), Distiller(stored, classifier(1))
    for d in (live, trained):
        d.fit(FLOATS, CLASSES, **OPTIONS)
    for one, other in zip(numbers(live), numbers(trained), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
    with pytest.raises(ValueError, match="the preprocessor that the teacher had"):
        Distiller(stored, classifier(1, scale=1.0)).fit(FLOATS, CLASSES, **OPTIONS)


@pytest.mark.single_backend
def test_outputs_for_images_of_another_preprocessor_are_refused(tmp_path):
    teachers.store(classifier(0), FLOATS, tmp_path, verbose=0)
    with pytest.raises(ValueError, match="other teacher_inputs"):
        teachers.store(classifier(0, scale=1.0), FLOATS, tmp_path, verbose=0)
    ensemble = [classifier(0), classifier(1, scale=1.0)]
    with pytest.raises(ValueError, match="unlike each other: scale is .* and 1.0"):
        teachers.store(ensemble, FLOATS, tmp_path / "ensemble", verbose=0)


@pytest.mark.single_backend
def test_teacher_inputs_make_another_preprocessor_possible():
    enlarge = keras.layers.Resizing(16, 16)
    with pytest.raises(ValueError, match="scale is .*or give `teacher_inputs`"):
        d = Distiller(classifier(0, scale=1.0), classifier(1), KD())
        d.fit(FLOATS, CLASSES, **OPTIONS)
    large = classifier(0, size=16)
    d = Distiller(large, classifier(1), KD(), teacher_inputs=enlarge)
    d.fit(FLOATS, CLASSES, **OPTIONS)
