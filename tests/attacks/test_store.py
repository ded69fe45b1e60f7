"""Adversarial inputs that are kept with the data."""

import functools
import importlib

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller, attacks
from keras_dtkd.datasets import with_columns
from keras_dtkd.losses import KD, FeatureMSE
from keras_dtkd.views import Stored
from tests.attacks.oracle import inputs
from tests.pyramid_detector import LEVELS, data, detector
from tests.tensors import numpy, tensor
from tests.tiny_models import same

# The function has the name of its module.
module = importlib.import_module("keras_dtkd.attacks.store")
pytestmark = pytest.mark.single_backend
X, Y = inputs()
X = np.rint(255 * (X - X.min()) / (X.max() - X.min())).astype("float32") / 255
EPSILON = 8 / 255


def network(seed=0):
    keras.utils.set_random_seed(seed)
    layers = [keras.Input(X.shape[1:]), keras.layers.Dense(int(Y.max()) + 1)]
    return keras.Sequential(layers)


def store(model, path, **options):
    options = {"attack": "pgd", "steps": 3, "verbose": 0, **options}
    return attacks.store(model, X, Y, path, EPSILON, from_logits=True, **options)


def test_what_is_stored_is_the_attack_and_is_made_once(tmp_path, monkeypatch):
    model = network()
    stored = store(model, tmp_path / "a")
    expected = attacks.pgd(model, X, Y, EPSILON, steps=3, seed=[0, 0], from_logits=True)
    np.testing.assert_array_equal(stored, expected)
    monkeypatch.setattr(module, "_fill", None)
    np.testing.assert_array_equal(store(model, tmp_path / "a"), expected)
    np.testing.assert_array_equal(attacks.load(tmp_path / "a", model), expected)
    assert stored.dtype == np.float32


def test_an_interrupted_run_goes_on_to_the_same_inputs(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_SIZE", 4)
    model, calls = network(), []
    expected = np.array(store(model, tmp_path / "a"))

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return attacks.pgd(*args, **kwargs)

    monkeypatch.setitem(module.ATTACKS, "pgd", interrupted)
    interrupted.__name__ = "pgd"
    # As the attack's own, of which the seed is one.
    interrupted.__signature__ = module.inspect.signature(attacks.pgd)
    with pytest.raises(KeyboardInterrupt):
        store(model, tmp_path / "b")
    with pytest.raises(ValueError, match="no complete set.*it resumes"):
        attacks.load(tmp_path / "b", model)
    found = store(model, tmp_path / "b")
    assert len(calls) == 1 + -(-len(X) // 4)
    np.testing.assert_array_equal(found, expected)


def test_8_bits_are_a_quarter_of_the_size_and_stay_in_the_ball(tmp_path):
    model = network()
    small = store(model, tmp_path / "a", dtype="uint8")
    assert small.dtype == np.uint8
    shown = numpy(Stored("a").show(tensor(X), {"a": tensor(np.array(small), "uint8")}))
    assert np.abs(shown - X).max() <= EPSILON + 1e-6
    exact = store(model, tmp_path / "b")
    assert np.abs(shown - exact).max() <= 0.5 / 255 + 1e-6


def test_another_model_or_other_samples_are_refused(tmp_path):
    model = network()
    store(model, tmp_path / "a")
    with pytest.raises(ValueError, match="of another model"):
        attacks.load(tmp_path / "a", network(1))
    with pytest.raises(ValueError, match="another model"):
        store(network(1), tmp_path / "a")
    with pytest.raises(ValueError, match="other options"):
        store(model, tmp_path / "a", steps=4)
    with pytest.raises(ValueError, match="other samples"):
        attacks.store(
            model, X[:5], Y[:5], tmp_path / "a", EPSILON, attack="pgd", steps=3
        )
    with pytest.raises(FileNotFoundError, match="no folder"):
        attacks.load(tmp_path / "b", model)
    with pytest.raises(ValueError, match="`dtype` must be"):
        store(model, tmp_path / "c", dtype="float16")
    with pytest.raises(ValueError, match="`seed` must be an integer"):
        store(model, tmp_path / "c", seed=None)
    with pytest.raises(ValueError, match="built Keras model"):
        store(None, tmp_path / "c")
    with pytest.raises(TypeError, match="step_count"):
        store(model, tmp_path / "c", step_count=3)


def add_epsilon(model, x, y, epsilon, **options):
    return x + epsilon


def test_another_output_or_attack_is_refused(tmp_path):
    model, options = network(), {"steps": 3, "verbose": 0}
    store(model, tmp_path / "a", output=0)
    with pytest.raises(ValueError, match="another output"):
        store(model, tmp_path / "a")
    with pytest.raises(ValueError, match="other from_logits"):
        attacks.store(
            model, X, Y, tmp_path / "a", EPSILON, attack="pgd", output=0, **options
        )
    with pytest.raises(ValueError, match="another attack"):
        store(model, tmp_path / "a", output=0, attack=add_epsilon)
    stored = store(model, tmp_path / "b", attack=add_epsilon)
    np.testing.assert_array_equal(stored, X + np.float32(EPSILON))
    for unnamed in (lambda *args, **kwargs: X, functools.partial(add_epsilon)):
        with pytest.raises(ValueError, match="defined in a module"):
            store(model, tmp_path / "c", attack=unnamed)


def test_every_sample_is_checked_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_SIZE", 4)
    monkeypatch.setattr(module, "_fill", None)
    wrong_label, outside, missing = Y.copy(), X.copy(), X.copy()
    wrong_label[-1], outside[-1, 0], missing[-1, 0] = Y.max() + 1, 2.0, np.nan
    for x, y, match in (
        (X, wrong_label, "the model has the classes"),
        (outside, Y, "outside of `range"),
        (missing, Y, "without NaN"),
    ):
        with pytest.raises(ValueError, match=f"^`store`: .*{match}"):
            attacks.store(network(), x, y, tmp_path / "a", EPSILON, verbose=0)


def test_a_damaged_file_is_refused(tmp_path):
    model = network()
    store(model, tmp_path / "a")
    path = tmp_path / "a" / "inputs.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="missing, damaged"):
        attacks.load(tmp_path / "a", model)


def test_a_detector_is_trained_on_what_was_stored_for_its_teacher(tmp_path):
    x, y = data(8)
    teacher, student = detector(8), detector(4, seed=1)
    options = {"steps": 2, "verbose": 0, "dtype": "uint8"}
    column = attacks.store(teacher, x, y, tmp_path / "a", EPSILON, **options)
    loss = FeatureMSE(LEVELS, view="adversarial")
    d = Distiller(teacher, student, loss, views=Stored("adversarial"))
    logs = d.fit(with_columns(x, adversarial=column), y, verbose=0).history
    assert logs["feature_mse"][0] > 0
    assert attacks.load(tmp_path / "a", teacher).shape == x.shape


def flat(seed):
    keras.utils.set_random_seed(seed)
    layers = [keras.Input(X.shape[1:]), keras.layers.Dense(3)]
    return keras.Sequential(layers)


@pytest.mark.invariant(number=10)
@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({}, "no column 'b'.*with_columns"),
        ({"b": X[:, :1]}, "of the same shape"),
        ({"b": X.astype("int32")}, "8-bit integers"),
    ],
)
def test_a_column_that_does_not_fit_is_refused_before_the_first_step(columns, match):
    d = Distiller(flat(0), flat(1), KD(view="b"), views=Stored("b"))
    before = d.student.get_weights()
    x = with_columns(X, other=X, **columns)
    with pytest.raises(ValueError, match=match):
        d.fit(x, verbose=0)
    for one, other in zip(before, d.student.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_view_of_a_column_is_that_column_and_is_saved(tmp_path):
    column = X[::-1].copy()
    d = Distiller(flat(0), flat(1), KD(view="b"), views=Stored("b"), task_weight=0.0)
    d.fit(with_columns(X, b=column), shuffle=False, verbose=0)
    other = Distiller(flat(0), flat(1), KD(), task_weight=0.0)
    other.fit(column, shuffle=False, verbose=0)
    for one, two in zip(d.student.weights, other.student.weights, strict=True):
        np.testing.assert_allclose(numpy(one), numpy(two), rtol=1e-5)
    d.save(tmp_path / "d.keras")
    loaded = keras.saving.load_model(tmp_path / "d.keras")
    loaded.teacher = d.teacher
    for each in (d, loaded):
        each.fit(with_columns(X, b=column), shuffle=False, verbose=0)
    assert same(loaded, d)
    assert loaded.views["b"].inference and loaded.views["b"].range == (0.0, 1.0)


@pytest.mark.parametrize("column", [None, "", X])
def test_a_column_is_a_name(column):
    with pytest.raises(TypeError, match="name of a column"):
        Stored(column)


@pytest.mark.parametrize("bounds", [(1.0, 0.0), None, (0.0,)])
def test_a_range_is_two_bounds(bounds):
    with pytest.raises(ValueError, match="`range` must be"):
        Stored("a", range=bounds)


def test_8_bits_are_spread_over_the_range_of_each_channel():
    mean, std = np.array([0.4, 0.5, 0.6]), np.array([0.2, 0.25, 0.3])
    view = Stored("a", range=((0 - mean) / std, (1 - mean) / std))
    bits = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3))
    shown = view.show(tensor(0.0 * bits), {"a": tensor(bits, "uint8")})
    np.testing.assert_allclose(numpy(shown), (bits / 255 - mean) / std, atol=1e-5)


def shift(model, x, y, epsilon):
    return x + epsilon


def draw(model, x, y, epsilon, seed=0, range=None):
    # NumPy would take a list too.
    assert isinstance(seed, int) and range == (0.0, 1.0)
    return x + np.random.default_rng(seed).uniform(-epsilon, epsilon, x.shape)


def draw_by_options(model, x, y, epsilon, **options):
    return draw(model, x, y, epsilon, **options)


@pytest.mark.single_backend
def test_an_attack_of_ones_own_gets_what_it_takes(tmp_path):
    def store_own(name, attack):
        path = tmp_path / name
        return attacks.store(network(), X, Y, path, EPSILON, attack=attack, verbose=0)

    stored = store_own("a", shift)
    np.testing.assert_array_equal(stored, X + np.float32(EPSILON))
    expected = store_own("b", draw)
    assert 0 < np.abs(expected - X).max() <= EPSILON + 1e-6
    # It hands all options on.
    np.testing.assert_array_equal(store_own("c", draw_by_options), expected)
