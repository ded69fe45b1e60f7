"""Pruning takes the smallest weights of each kernel, in a copy."""

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.losses import KD
from keras_dtkd.teachers import (
    Ensemble,
    ModelTeacher,
    Pruned,
    Teacher,
    model_fingerprint,
    store,
)
from keras_dtkd.teachers.forward import run_teacher
from tests.tiny_models import CLASSES, close, data, everything, student, teacher

X, Y = data(16)


def rich(dtype=None):
    """Kernels of many kinds, at several depths, and weights that are none."""
    inner = keras.Sequential(
        [
            keras.Input((4, 4, 6)),
            keras.layers.DepthwiseConv2D(3, dtype=dtype),
            keras.layers.BatchNormalization(dtype=dtype),
        ],
        name="inner",
    )
    inputs = keras.Input((6, 6), dtype="int32")
    x = keras.layers.Embedding(5, 3, dtype=dtype)(inputs)
    x = keras.layers.Conv2D(6, 3, dtype=dtype)(x)
    x = inner(x)
    x = keras.layers.SeparableConv2D(5, 1, dtype=dtype)(x)
    x = keras.layers.Reshape((4, 5))(x)
    x = keras.layers.MultiHeadAttention(2, 3, dtype=dtype)(x, x)
    x = keras.layers.LayerNormalization(dtype=dtype)(x)
    x = keras.layers.EinsumDense("abc,cd->abd", (None, 4), dtype=dtype)(x)
    x = keras.layers.GRU(3, dtype=dtype)(x)
    model = keras.Model(inputs, keras.layers.Dense(CLASSES, dtype=dtype)(x))
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) for w in model.weights])
    return model


def numpy(variable):
    return np.array(keras.ops.convert_to_numpy(variable.value), "float64")


def outputs_of(given, x=X):
    return keras.ops.convert_to_numpy(run_teacher(given, x))


def reference(values, rate):
    """Those above the greatest of the `round(rate n)` smallest. No ties."""
    count = round(rate * values.size)
    if count == 0:
        return values
    limit = np.partition(np.abs(values).ravel(), count - 1)[count - 1]
    return np.where(np.abs(values) <= limit, 0, values)


KERNELS = {
    "kernel",
    "depthwise_kernel",
    "pointwise_kernel",
    "recurrent_kernel",
}


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.99])
def test_each_kernel_loses_its_smallest_share_and_nothing_else_changes(rate):
    model = rich()
    pruned = Pruned(model, rate).model
    kernels = 0
    for before, after in zip(model.weights, pruned.weights, strict=True):
        values = numpy(before)
        if before.name in KERNELS:
            kernels += 1
            values = reference(values, rate)
            assert (values == 0).sum() == round(rate * values.size), before.path
        assert np.array_equal(numpy(after), values), before.path
    # Convolutions 4, attention 4, the others 1, 2 and 1.
    assert kernels == 12


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="torch's own function")
@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5])
def test_it_is_what_torch_prunes(rate):
    import torch
    from torch.nn.utils import prune

    model = keras.Sequential([keras.Input((9,)), keras.layers.Dense(10)])
    kernel = numpy(model.layers[0].kernel)
    module = torch.nn.Linear(9, 10)
    module.weight.data = torch.tensor(kernel.T.copy())
    prune.l1_unstructured(module, "weight", rate)
    expected = module.weight.detach().cpu().numpy().T
    found = numpy(Pruned(model, rate).model.layers[0].kernel)
    assert np.array_equal(found, expected)


def dense(kernel, dtype=None):
    model = keras.Sequential(
        [
            keras.Input((kernel.shape[0],)),
            keras.layers.Dense(kernel.shape[1], use_bias=False, dtype=dtype),
        ]
    )
    model.set_weights([kernel])
    return model


def pruned_kernel(kernel, rate, dtype=None):
    return numpy(Pruned(dense(kernel, dtype), rate).model.weights[0])


def test_the_sign_counts_nothing():
    found = pruned_kernel(np.array([[-3.0, 1.0], [-2.0, 4.0]]), 0.5)
    assert found.tolist() == [[-3.0, 0.0], [0.0, 4.0]]


def test_of_equal_weights_the_first_go():
    kernel = np.where(np.arange(400) % 3, 1.0, -1.0).reshape(20, 20)
    found = pruned_kernel(kernel, 0.5)
    assert not found[:10].any() and np.array_equal(found[10:], kernel[10:])


def test_half_a_weight_is_rounded_as_torch_does():
    kernel = np.arange(1.0, 6.0)[:, None]
    assert (pruned_kernel(kernel, 0.5) == 0).sum() == 2
    assert (pruned_kernel(kernel, 0.3) == 0).sum() == 2


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_weights_stay_what_they_are(dtype):
    kernel = np.random.default_rng(0).permutation(64).reshape(8, 8) + 1.0
    assert np.array_equal(pruned_kernel(kernel, 0.25, dtype), reference(kernel, 0.25))


@pytest.mark.invariant(number=9)
def test_the_model_stays_as_it_is():
    model = teacher(compiled=True)
    before = everything(model)
    given = Pruned(model, 0.5)
    Distiller(given, student(), KD()).fit(X, Y, batch_size=8, verbose=0)
    assert everything(model) == before
    owned = {id(v) for v in model.variables}
    assert not owned & {id(v) for v in given.variables}


@pytest.mark.invariant(number=9)
def test_its_batch_statistics_are_the_models_and_do_not_drift():
    model = teacher()
    statistics = model.layers[2]
    statistics.moving_mean.assign(np.arange(12.0) / 12)
    given = Pruned(model, 0.1)
    first = outputs_of(given)
    Distiller(given, student(), KD()).fit(X, Y, batch_size=8, verbose=0)
    copied = given.model.layers[2]
    assert np.array_equal(numpy(copied.moving_mean), numpy(statistics.moving_mean))
    assert np.array_equal(outputs_of(given), first)


@pytest.mark.parametrize("make", [np.float32, np.float16, np.float64, np.array])
def test_the_rate_may_be_a_numpy_number(make):
    pruned = Pruned(dense(np.arange(1.0, 9.0)[:, None]), make(0.5))
    assert type(pruned.rate) is float
    assert (numpy(pruned.model.weights[0]) == 0).sum() == 4


def test_at_rate_zero_its_outputs_are_those_of_the_model():
    model = teacher(scale=1.0)
    assert np.array_equal(
        outputs_of(Pruned(model, 0.0)), outputs_of(ModelTeacher(model))
    )


def test_what_the_model_learns_later_does_not_reach_the_copy():
    model = teacher()
    given = Pruned(model, 0.1)
    first = outputs_of(given)
    model.set_weights([2 * w + 1 for w in model.get_weights()])
    assert np.array_equal(outputs_of(given), first)


def test_with_the_model_in_an_ensemble_it_makes_the_target_of_r2kd():
    model = student(seed=3, width=32)
    # By hand: a hidden layer of tanh, its kernels pruned, then 0.7 z + 0.3 z_pruned.
    k1, b1, k2, b2 = (np.array(w, "float64") for w in model.get_weights())

    def z(k1, k2):
        return np.tanh(X @ k1 + b1) @ k2 + b2

    expected = 0.7 * z(k1, k2) + 0.3 * z(reference(k1, 0.1), reference(k2, 0.1))
    target = Ensemble([model, Pruned(model, 0.1)], weights=[0.7, 0.3])
    assert np.allclose(outputs_of(target), expected, atol=1e-5)
    assert not np.allclose(outputs_of(target), z(k1, k2), atol=1e-4)


def test_it_trains_as_its_copy_does():
    runs = []
    given = Pruned(teacher(), 0.3)
    for large in (given, given.model):
        small = student()
        d = Distiller(large, small, KD())
        d.fit(X, Y, shuffle=False, verbose=0)
        assert d.teacher is large
        runs.append(small)
    assert close(*runs)


def test_it_is_a_teacher_with_the_fingerprint_of_its_copy():
    model = rich()
    given = Pruned(model, 0.1)
    assert isinstance(given, Teacher)
    assert (
        given.fingerprint()
        == model_fingerprint(given.model)
        != model_fingerprint(model)
    )
    assert Pruned(model, 0.1).fingerprint() == given.fingerprint()
    assert Pruned(model, 0.2).fingerprint() != given.fingerprint()


def test_what_a_layer_has_adapted_to_is_copied():
    normalization = keras.layers.Normalization()
    normalization.adapt(10 * X + 3)
    model = keras.Sequential(
        [keras.Input(X.shape[1:]), normalization, keras.layers.Dense(CLASSES)]
    )
    assert np.allclose(
        outputs_of(Pruned(model, 0.0)), outputs_of(ModelTeacher(model)), atol=1e-6
    )


@keras.saving.register_keras_serializable("tests")
class Known(keras.Model):
    """Of a class of its own, that can be made again."""

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.hidden = keras.layers.Dense(width, "relu")
        self.head = keras.layers.Dense(CLASSES)

    def call(self, inputs):
        return self.head(self.hidden(inputs))

    def get_config(self):
        return {**super().get_config(), "width": self.width}


class Unknown(keras.Model):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, inputs):
        return self.layer(inputs)

    def get_config(self):
        raise NotImplementedError("what layer?")


def test_a_model_of_its_own_class_is_made_again():
    model = Known(7)
    model(X)
    model.compile("adam", "mse")
    assert np.array_equal(
        outputs_of(Pruned(model, 0.0)), outputs_of(ModelTeacher(model))
    )
    given = Pruned(model, 0.5)
    assert isinstance(given.model, Known)
    assert (numpy(given.model.hidden.kernel) == 0).sum() == 21


def unknown():
    model = Unknown(keras.layers.Dense(3))
    model(X)
    return model


def without_kernels():
    return keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization()])


WRONG = {
    "a negative rate": (lambda: Pruned(teacher(), -0.1), r"in \[0, 1\).*rate=-0.1"),
    "all of it": (lambda: Pruned(teacher(), 1), "rate=1"),
    "no number": (lambda: Pruned(teacher(), "some"), "rate='some'"),
    "two numbers": (lambda: Pruned(teacher(), np.array([0.1, 0.2])), "a number in"),
    "nan": (lambda: Pruned(teacher(), float("nan")), "rate=nan"),
    "not built": (
        lambda: Pruned(keras.Sequential([keras.layers.Dense(3)]), 0.1),
        "is not built.*Call it",
    ),
    "no kernel": (lambda: Pruned(without_kernels(), 0.1), "nothing to prune"),
    "a class that cannot be made again": (
        lambda: Pruned(unknown(), 0.1),
        "cannot be copied.*get_config.*what layer",
    ),
}


@pytest.mark.invariant(number=10)
@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_argument_is_named_with_its_value(case):
    make, message = WRONG[case]
    with pytest.raises(ValueError, match="(?s)`Pruned`.*" + message):
        make()


@pytest.mark.invariant(number=10)
def test_only_models_are_pruned():
    with pytest.raises(TypeError, match="`model` must be a `keras.Model`.*Ensemble"):
        Pruned(Ensemble([teacher()]), 0.1)


@pytest.mark.single_backend
def test_a_task_of_keras_hub_keeps_its_preprocessor(tmp_path):
    hub = pytest.importorskip("keras_hub", reason="KerasHub is not installed.")
    converter = hub.layers.ResNetImageConverter(image_size=(32, 32), scale=1 / 255)
    backbone = hub.models.ResNetBackbone(
        *([64], [3], [64], [1], [1], "basic_block"), image_shape=(32, 32, 3)
    )
    preprocessor = hub.models.ResNetImageClassifierPreprocessor(converter)
    model = hub.models.ResNetImageClassifier(
        backbone, num_classes=4, preprocessor=preprocessor
    )
    given = Pruned(model, 0.0)
    assert given.model.preprocessor is preprocessor
    x = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3)).astype("uint8")
    stored = store(given, x, tmp_path, verbose=0)
    outputs = keras.ops.convert_to_numpy(stored.outputs(None, np.arange(6)))
    np.testing.assert_allclose(outputs, model.predict(x, verbose=0), atol=1e-4)


@pytest.mark.single_backend
def test_a_vocabulary_that_a_layer_has_adapted_to_is_copied():
    lookup = keras.layers.IntegerLookup(output_mode="multi_hot")
    lookup.adapt([5, 7, 7, 9])
    inputs = keras.Input((2,), dtype="int64")
    model = keras.Model(inputs, keras.layers.Dense(3)(lookup(inputs)))
    x = np.array([[5, 7], [9, 9], [1, 5]])
    given = Pruned(model, 0.0)
    np.testing.assert_array_equal(outputs_of(given, x), model.predict(x, verbose=0))


@pytest.mark.single_backend
def test_a_vocabulary_that_a_layer_was_given_stays():
    options = {"output_mode": "tf_idf", "idf_weights": [0.5, 2.0]}
    lookup = keras.layers.IntegerLookup(vocabulary=[5, 7], **options)
    inputs = keras.Input((2,), dtype="int64")
    model = keras.Model(inputs, keras.layers.Dense(3)(lookup(inputs)))
    x = np.array([[5, 7], [9, 5]])
    given = Pruned(model, 0.0)
    np.testing.assert_array_equal(outputs_of(given, x), model.predict(x, verbose=0))
