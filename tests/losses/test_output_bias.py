"""The output bias becomes what CKD leaves open, and nothing else is touched."""

import tracemalloc

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_dtkd
from keras_dtkd import Distiller, calibrate_output_bias
from keras_dtkd.losses import CKD
from tests import oracles, tiny_models
from tests.logit_cases import assert_close

X, _ = tiny_models.data(40)
OFFSET = np.array([3.0, -2.0, 0.5, 1.0])
NOISE = np.random.default_rng(1).normal(size=(40, 4))
TARGET = OFFSET + NOISE.mean(0)


def outputs_of(model, x=X):
    outputs = ops.cast(model(x, training=False), "float32")
    return np.asarray(ops.convert_to_numpy(outputs), "float64")


def sequential(*others, shape=(6,)):
    return keras.Sequential([keras.Input(shape), *others])


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden, self.head = layers.Dense(8, "tanh"), layers.Dense(4)

    def call(self, x):
        return self.head(self.hidden(x))


def subclassed():
    model = Subclassed()
    model(X)
    return model


def nested():
    inputs = keras.Input((6,))
    inner = tiny_models.student(dropout=0.5)
    return keras.Model(inputs, layers.Dropout(0.5)(inner(layers.Dense(6)(inputs))))


STUDENTS = {
    "dense": tiny_models.student,
    "einsum": lambda: sequential(layers.EinsumDense("ab,bc->ac", 4, bias_axes="c")),
    "convolution and pooling": lambda: sequential(
        layers.Reshape((3, 2)), layers.Conv1D(4, 2), layers.GlobalAveragePooling1D()
    ),
    "nested": nested,
    "subclassed": subclassed,
}
SOFTMAX = {
    "argument": lambda: tiny_models.student("softmax"),
    "layer": lambda: sequential(layers.Dense(4), layers.Softmax()),
    "activation": lambda: sequential(layers.Dense(4), layers.Activation("softmax")),
    "nested": lambda: sequential(tiny_models.student("softmax")),
}


@pytest.mark.parametrize("name", STUDENTS)
def test_only_the_output_bias_changes_by_the_mean_difference(name):
    student = STUDENTS[name]()
    teacher_logits = outputs_of(student) + OFFSET + NOISE
    before = tiny_models.numbers(student)
    shift = calibrate_output_bias(student, X, teacher_logits, batch_size=16)
    assert isinstance(shift, np.ndarray) and shift.shape == (4,)
    assert_close(shift, TARGET)
    assert_close((teacher_logits - outputs_of(student)).mean(0), 0.0)
    changed = [
        b - a
        for a, b in zip(before, tiny_models.numbers(student), strict=True)
        if not np.array_equal(a, b)
    ]
    assert len(changed) == 1
    assert_close(changed[0], TARGET)


@pytest.mark.parametrize("name", SOFTMAX)
def test_softmax_outputs_are_compared_up_to_a_constant(name):
    student = SOFTMAX[name]()
    constants = np.arange(40.0)[:, None]
    teacher_logits = np.log(outputs_of(student)) + OFFSET + NOISE + constants
    shift = calibrate_output_bias(student, X, teacher_logits)
    assert_close(shift, TARGET - TARGET.mean(), 2e-5)
    residual = oracles.centered(teacher_logits - np.log(outputs_of(student)))
    assert_close(residual.mean(0), 0.0, 2e-5)


@pytest.mark.parametrize("classes", [1, 4])
def test_each_label_of_a_sigmoid_output_has_its_own_shift(classes):
    student = tiny_models.student("sigmoid", classes=classes)
    p = outputs_of(student)
    teacher_logits = np.log(p / (1 - p)) + OFFSET[:classes]
    shift = calibrate_output_bias(student, X, teacher_logits)
    assert_close(shift, OFFSET[:classes], 2e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("head", [None, "softmax"])
def test_half_precision_students_are_calibrated(head, dtype):
    student = tiny_models.student(head, dtype=dtype)
    z = outputs_of(student)
    teacher_logits = (np.log(z) if head else z) + OFFSET
    expected = OFFSET - OFFSET.mean() if head else OFFSET
    assert_close(calibrate_output_bias(student, X, teacher_logits), expected, 0.02)


@pytest.mark.invariant(number=3)
def test_masked_positions_are_ignored():
    x = np.array([[1, 2, 3, 0], [4, 5, 0, 0]])
    student = tiny_models.sequence()
    teacher_logits = outputs_of(student, x) + OFFSET[:3]
    teacher_logits[x == 0] = 100.0
    assert_close(calibrate_output_bias(student, x, teacher_logits, 1), OFFSET[:3])


@pytest.mark.parametrize("mask", [-1e9, -np.inf])
def test_masked_classes_are_ignored(mask):
    student = tiny_models.student()
    teacher_logits = outputs_of(student) + OFFSET
    teacher_logits[:, 1] = mask
    teacher_logits[:7, 3] = mask
    expected = OFFSET * [1, 0, 1, 1]
    assert_close(calibrate_output_bias(student, X, teacher_logits), expected)


def test_inputs_can_be_nested_and_logits_can_be_tensors():
    inputs = {"a": keras.Input((6,), name="a"), "b": keras.Input((6,), name="b")}
    outputs = layers.Dense(4)(layers.Concatenate()(list(inputs.values())))
    student, x = keras.Model(inputs, outputs), {"a": X, "b": 2 * X}
    teacher_logits = ops.convert_to_tensor(outputs_of(student, x) + OFFSET)
    assert_close(calibrate_output_bias(student, x, teacher_logits, 16), OFFSET)


def test_no_array_of_the_size_of_the_data_set_is_made():
    student = sequential(layers.Dense(256), shape=(1,))
    x = np.ones((20_000, 1), "float32")
    teacher_logits = np.ones((20_000, 256), "float16")
    tracemalloc.start()
    try:
        calibrate_output_bias(student, x, teacher_logits, 500)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert_close(outputs_of(student, x[:1]), 1.0)
    # Some arrays of a batch, float32 or float64.
    assert peak < teacher_logits.nbytes


def without_bias():
    return sequential(layers.Dense(4, use_bias=False))


def bias_elsewhere():
    return sequential(layers.Dense(5), layers.Dense(4, use_bias=False))


def something_between():
    return sequential(layers.Dense(4), layers.Dense(4, use_bias=False))


RIGHT = np.random.default_rng(0).normal(size=(40, 4))


@pytest.mark.invariant(number=10)
@pytest.mark.parametrize(
    "make, teacher_logits, found",
    [
        (without_bias, RIGHT, "no layer of the student has a bias"),
        (bias_elsewhere, RIGHT, r"shape \(5,\), and its output 4 classes"),
        (something_between, RIGHT, "does not add to the outputs"),
        (tiny_models.student, RIGHT[:, :3], r"\(32, 4\).* \(32, 3\)"),
        (tiny_models.student, RIGHT[:30], "`x` has 40 samples and `teacher_logits` 30"),
        (tiny_models.student, oracles.softmax(RIGHT), "look like probabilities"),
        (tiny_models.student, RIGHT * np.nan, "NaN or infinity"),
        (
            lambda: tiny_models.two_outputs("dict"),
            RIGHT,
            "several outputs: label, size",
        ),
        (
            lambda: tiny_models.two_outputs("list"),
            RIGHT,
            "several outputs: label, size",
        ),
    ],
)
def test_invalid_use_raises_and_leaves_the_student_unchanged(
    make, teacher_logits, found
):
    student = make()
    before = tiny_models.everything(student)
    with pytest.raises(ValueError, match=found):
        calibrate_output_bias(student, X, teacher_logits)
    assert tiny_models.everything(student) == before


@pytest.mark.invariant(number=10)
def test_a_dataset_instead_of_arrays_raises():
    with pytest.raises(TypeError, match="must be arrays.* generator"):
        calibrate_output_bias(tiny_models.student(), (x for x in X), RIGHT)


def test_calibrate_output_bias_is_exported():
    assert keras_dtkd.losses.calibrate_output_bias is calibrate_output_bias


def test_calibration_gives_a_ckd_student_the_teachers_accuracy_on_digits():
    """120 teacher calls; the offset that the student started with stays in it."""
    datasets = pytest.importorskip("sklearn.datasets")
    images, labels = datasets.load_digits(return_X_y=True)
    images = (images / 16).astype("float32")
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = images[order], labels[order]
    train, few, rest = slice(0, 1000), slice(0, 120), slice(1000, None)
    keras.utils.set_random_seed(0)

    def network(*sizes):
        hidden = [layers.Dense(size, "relu") for size in sizes]
        return sequential(*hidden, layers.Dense(10), shape=(64,))

    def accuracy(model):
        return (outputs_of(model, images[rest]).argmax(-1) == labels[rest]).mean()

    teacher, student = network(64), network(32)
    teacher.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    teacher.fit(images[train], labels[train], batch_size=100, epochs=15, verbose=0)
    offset = np.random.default_rng(2).normal(scale=5.0, size=10)
    student.layers[-1].bias.assign(offset)
    distiller = Distiller(teacher, student, CKD(label_weight=0.0), task_weight=0.0)
    distiller.compile(keras.optimizers.Adam(0.01))
    # Many times in one epoch: epochs take longer than steps.
    distiller.fit(np.tile(images[few], (150, 1)), batch_size=60, verbose=0)

    bias = student.layers[-1].bias
    # Adam makes steps of what rounding leaves of its gradient.
    assert_close(ops.convert_to_numpy(bias.value), offset, 0.05)
    uncalibrated = accuracy(student)
    teacher_logits = teacher.predict(images[few], verbose=0)
    calibrate_output_bias(student, images[few], teacher_logits)
    assert uncalibrated < 0.7
    assert accuracy(student) > 0.9
