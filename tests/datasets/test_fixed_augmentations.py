"""Fixed augmentations: a stored teacher's outputs match the images in each epoch."""

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.datasets import digits, from_arrays
from keras_dtkd.losses import KD
from keras_dtkd.teachers import Stored, store
from tests.tiny_models import close

tf = pytest.importorskip("tensorflow")

COUNT, AUGMENTATIONS = 50, 3
IMAGES = np.random.default_rng(0).integers(1, 255, (COUNT, 12, 12, 1)).astype("uint8")
LABELS = np.arange(COUNT)
TRAIN = (IMAGES, LABELS)


def build(augmentations=AUGMENTATIONS, **options):
    options = {"seed": 3, "augment": True, **options}
    options["augmentations_per_image"] = augmentations
    return from_arrays(TRAIN, TRAIN, 16, **options)


def images_and_labels(dataset):
    x, y = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(x), np.concatenate(y)


def epoch(train):
    """Images, sample IDs and labels of an epoch."""
    x, y = zip(*train.as_numpy_iterator(), strict=True)
    images = np.concatenate([batch["inputs"] for batch in x])
    sample_ids = np.concatenate([batch["sample_ids"] for batch in x])
    return images, sample_ids, np.concatenate(y)


def test_the_sample_id_is_the_index_of_the_augmented_image():
    augmented, train, _ = build()
    images, labels = images_and_labels(augmented)
    assert len(images) == AUGMENTATIONS * COUNT and len(augmented) == AUGMENTATIONS * 4
    assert train.element_spec[0]["sample_ids"].shape.as_list() == [None]
    for number in range(2 * AUGMENTATIONS):
        x, sample_ids, y = epoch(train)
        np.testing.assert_array_equal(x, images[sample_ids])
        np.testing.assert_array_equal(y, labels[sample_ids])
        expected = np.arange(COUNT) + number % AUGMENTATIONS * COUNT
        np.testing.assert_array_equal(np.sort(sample_ids), expected)
        assert (sample_ids != expected).any()


def test_augmentations_of_an_image_differ():
    images, labels = images_and_labels(build()[0])
    images = images.reshape(AUGMENTATIONS, COUNT, -1)
    np.testing.assert_array_equal(labels, np.tile(LABELS, AUGMENTATIONS))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert (images[i] != images[j]).any(-1).mean() > 0.9


def test_the_seed_changes_the_order_and_not_the_augmentations():
    first, second = build(seed=0), build(seed=1)
    np.testing.assert_array_equal(
        images_and_labels(first[0])[0], images_and_labels(second[0])[0]
    )
    assert (epoch(first[1])[1] != epoch(second[1])[1]).any()


def test_first_epoch_continues_an_uninterrupted_run():
    _, train, _ = build()
    for _ in range(4):
        epoch(train)
    _, continued, _ = build(first_epoch=4)
    for expected, array in zip(epoch(train), epoch(continued), strict=True):
        np.testing.assert_array_equal(array, expected)


def test_without_augmentation_images_are_only_normalized():
    augmented, train, test = build(1, augment=False)
    images, _ = images_and_labels(test)
    np.testing.assert_array_equal(images_and_labels(augmented)[0], images)
    x, sample_ids, _ = epoch(train)
    np.testing.assert_array_equal(x, images[sample_ids])


def test_held_out_images_are_not_augmented():
    *_, validation, test = build(validation=0.2)
    for dataset, expected in zip(
        (validation, test), build(None, validation=0.2)[1:], strict=True
    ):
        images, _ = images_and_labels(expected)
        np.testing.assert_array_equal(images_and_labels(dataset)[0], images)


def test_zero_augmentations_per_image_raises():
    with pytest.raises(
        ValueError, match="`augmentations_per_image` must be an integer"
    ):
        build(0)


def test_too_few_stored_outputs_raise_before_the_first_step():
    outputs = Stored(np.zeros((2 * COUNT, COUNT), "float32"), output_kind="logits")
    shape = [keras.Input((12, 12, 1)), keras.layers.Flatten()]
    student = keras.Sequential([*shape, keras.layers.Dense(COUNT)])
    before = student.get_weights()
    distiller = Distiller(outputs, student, KD())
    with pytest.raises(ValueError, match="for 100 samples, and the data needs 150"):
        distiller.fit(build()[1], epochs=3, verbose=0)
    for weight, expected in zip(student.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_a_stored_teacher_trains_the_student_of_the_model_itself(tmp_path):
    pytest.importorskip("sklearn")

    def network(width):
        keras.utils.set_random_seed(width)
        dense = [keras.layers.Dense(width, "relu"), keras.layers.Dense(10)]
        return keras.Sequential(
            [keras.Input((8, 8, 1)), keras.layers.Flatten(), *dense]
        )

    model, students = network(16), []
    for is_stored in (False, True):
        augmented, train, test = digits(64, seed=0, augmentations_per_image=2)
        teacher = store(model, augmented, tmp_path, verbose=0) if is_stored else model
        students.append(network(8))
        distiller = Distiller(teacher, students[-1], KD())
        distiller.compile(
            "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
        distiller.fit(train, epochs=2, verbose=0, shuffle=False, validation_data=test)
    assert close(*students, tolerance=1e-5)
