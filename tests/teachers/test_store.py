"""A teacher runs once on every sample, also after an interruption."""

import json
import sys

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.core.logits import OutputKind
from keras_dtkd.core.stored_folder import METADATA_FILE
from keras_dtkd.losses import KD, BinaryKD
from keras_dtkd.teachers import (
    Ensemble,
    ModelTeacher,
    Stored,
    Teacher,
    model_fingerprint,
    store,
    with_sample_ids,
)
from keras_dtkd.teachers.stored import OUTPUTS_FILE, SIGNATURES_FILE
from tests.tiny_models import data, student, teacher

X, Y = data(70)


def outputs_of(stored):
    sample_ids = np.arange(stored.num_samples)
    return keras.ops.convert_to_numpy(stored.outputs(None, sample_ids))


class Counting(Teacher):
    """A teacher that doubles its inputs, and counts the batches that it gets."""

    output_kind = OutputKind.LOGITS

    def __init__(self, dies_after=None, name="one"):
        self.batches, self.dies_after, self.name = 0, dies_after, name

    def outputs(self, x, sample_ids=None):
        return keras.ops.convert_to_tensor(x)[:, :4] * 2.0

    def fingerprint(self):
        return self.name


@pytest.fixture(autouse=True)
def counted(monkeypatch):
    """Counts, and kills, outside of what a backend may compile. Files are small."""
    # The package's `store` is the function, which hides its module.
    module = sys.modules[store.__module__]
    original = module.compile_teacher

    def compile_counting(teacher):
        forward = original(teacher)

        def counting_forward(x):
            if isinstance(teacher, Counting):
                if teacher.batches == teacher.dies_after:
                    raise KeyboardInterrupt
                teacher.batches += 1
            return forward(x)

        return counting_forward

    monkeypatch.setattr(module, "compile_teacher", compile_counting)
    monkeypatch.setattr(module, "CHUNK_SIZE", 20)


@pytest.fixture(params=["arrays", "batches"])
def given(request):
    """Makes the same samples anew, as arrays or as batches."""
    if request.param == "arrays":
        return lambda: X
    return lambda: ((X[s : s + 8], Y[s : s + 8]) for s in range(0, 70, 8))


def test_the_stored_outputs_are_the_teachers(tmp_path, given):
    model = teacher()
    before = model_fingerprint(model)
    stored = store(model, given(), tmp_path, batch_size=8, verbose=0)
    expected = model.predict(X, verbose=0)
    np.testing.assert_allclose(outputs_of(stored), expected, atol=1e-5)
    assert stored.num_samples == 70 and stored.output_kind == OutputKind.LOGITS
    assert model_fingerprint(model) == before
    np.testing.assert_array_equal(outputs_of(Stored(tmp_path)), outputs_of(stored))
    assert Stored(tmp_path).fingerprint() == stored.fingerprint()


def test_nested_inputs_are_passed_together(tmp_path):
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    model = keras.Model({"a": a, "b": b}, keras.layers.Dense(4)(a + b))
    x = {"a": X, "b": X[::-1].copy()}
    stored = store(model, x, tmp_path, verbose=0)
    np.testing.assert_allclose(
        outputs_of(stored), model.predict(x, verbose=0), atol=1e-5
    )


def test_with_all_outputs_stored_the_teacher_does_not_run(tmp_path, given):
    store(Counting(), given(), tmp_path, verbose=0)
    again = Counting()
    stored = store(again, given(), tmp_path, verbose=0)
    assert again.batches == 0
    np.testing.assert_array_equal(outputs_of(stored), X[:, :4] * 2.0)


def test_interrupted_it_resumes(tmp_path, given):
    dying = Counting(dies_after=7)
    with pytest.raises(KeyboardInterrupt):
        store(dying, given(), tmp_path, batch_size=8, verbose=0)
    with pytest.raises(ValueError, match="no complete set"):
        Stored(tmp_path)
    second = Counting()
    stored = store(second, given(), tmp_path, batch_size=8, verbose=0)
    # Of 9 batches, files of 3 are whole.
    assert second.batches == 3
    np.testing.assert_array_equal(outputs_of(stored), X[:, :4] * 2.0)
    files = [OUTPUTS_FILE, SIGNATURES_FILE, METADATA_FILE]
    assert sorted(path.name for path in tmp_path.iterdir()) == files


class Batches(keras.utils.PyDataset):
    """So many batches of 8."""

    def __init__(self, x, count):
        super().__init__()
        self.x, self.count = x, count

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        return (self.x[8 * i : 8 * i + 8],)


def test_samples_are_distinguished_by_more_than_the_first(tmp_path):
    permuted = np.concatenate([X[:1], X[:0:-1]])
    store(Counting(), X, tmp_path / "arrays", verbose=0)
    with pytest.raises(ValueError, match="with other samples"):
        store(Counting(), permuted, tmp_path / "arrays", verbose=0)
    store(Counting(), Batches(X, 4), tmp_path / "batches", verbose=0)
    for other in (Batches(X, 8), Batches(permuted, 4)):
        with pytest.raises(ValueError, match="with other samples"):
            store(Counting(), other, tmp_path / "batches", verbose=0)


def test_another_batch_size_may_resume(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        store(Counting(dies_after=5), X, tmp_path, batch_size=7, verbose=0)
    stored = store(Counting(), X, tmp_path, batch_size=16, verbose=0)
    np.testing.assert_array_equal(outputs_of(stored), X[:, :4] * 2.0)


@pytest.mark.parametrize("complete", [True, False], ids=["complete", "interrupted"])
def test_another_teacher_or_other_samples_are_refused(tmp_path, complete):
    if complete:
        store(Counting(), X, tmp_path, verbose=0)
    else:
        with pytest.raises(KeyboardInterrupt):
            store(Counting(dies_after=5), X, tmp_path, batch_size=7, verbose=0)
    with pytest.raises(ValueError, match="another teacher. Give another folder"):
        store(Counting(name="two"), X, tmp_path, verbose=0)
    with pytest.raises(ValueError, match="with other samples"):
        store(Counting(), X + 1, tmp_path, verbose=0)
    with pytest.raises(ValueError, match="with other samples"):
        store(Counting(), X[:60], tmp_path, verbose=0)
    with pytest.raises(ValueError, match="another dtype"):
        store(Counting(), X, tmp_path, dtype="float16", verbose=0)


def test_float16_halves_the_file_and_rounds(tmp_path):
    whole = store(teacher(), X, tmp_path / "32", verbose=0)
    half = store(teacher(), X, tmp_path / "16", dtype="float16", verbose=0)
    assert np.load(tmp_path / "16" / OUTPUTS_FILE).dtype == "float16"
    assert 0 < np.abs(outputs_of(half) - outputs_of(whole)).max() < 0.01


def test_outputs_that_float16_cannot_hold_are_refused(tmp_path):
    with pytest.raises(ValueError, match="probabilities"):
        store(teacher(head="softmax"), X, tmp_path / "p", dtype="float16", verbose=0)
    with pytest.raises(ValueError, match="65504"):
        store(teacher(scale=1e6), X, tmp_path / "l", dtype="float16", verbose=0)
    with pytest.raises(ValueError, match="'float32' or 'float16'"):
        store(teacher(), X, tmp_path, dtype="int8", verbose=0)


def test_the_output_kind_is_stored(tmp_path):
    for name in ("softmax", "sigmoid", None):
        folder = tmp_path / str(name)
        stored = store(teacher(head=name), X, folder, verbose=0)
        assert stored.output_kind == (name or "logits") == Stored(folder).output_kind


class Own(keras.Model):
    """Of whose layers nothing shows what it gives."""

    def __init__(self, function, seed=0, loss=None):
        super().__init__()
        self.function = function
        initializer = keras.initializers.RandomNormal(3.0, seed=seed)
        self.dense = keras.layers.Dense(4, kernel_initializer=initializer)
        self(X[:1])
        if loss is not None:
            self.compile(loss=loss)

    def call(self, x):
        return self.function(self.dense(x))


BINARY = keras.losses.BinaryCrossentropy(from_logits=True)
UNREADABLE = {
    "softmax": lambda: Own(keras.ops.softmax),
    "sigmoid": lambda: Own(keras.ops.sigmoid, loss="binary_crossentropy"),
    "softmax members": lambda: [Own(keras.ops.softmax, seed) for seed in (0, 1)],
    "members of labels": lambda: Ensemble(
        [Own(lambda z: z, seed, BINARY) for seed in (0, 1)], average="probs"
    ),
    "members in an ensemble": lambda: Ensemble(
        [[Own(keras.ops.softmax, seed) for seed in (0, 1)], Own(lambda z: z, 2)]
    ),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_stored_teacher_teaches_what_it_teaches_itself(case, tmp_path):
    model = UNREADABLE[case]()
    is_multilabel = case in ("sigmoid", "members of labels")
    learner = student(head="sigmoid" if is_multilabel else None)
    loss = BinaryKD if is_multilabel else KD
    stored = store(model, X, tmp_path, verbose=0)
    live = Distiller(model, learner, {"kd": loss()}).compute_losses(X)
    value = Distiller(stored, learner, {"kd": loss()}).compute_losses(
        with_sample_ids(X)
    )
    assert float(value["kd"]) == pytest.approx(float(live["kd"]), rel=1e-4)


def test_the_kind_of_one_of_several_outputs_is_stored(tmp_path):
    inputs = keras.Input((6,))
    tags = keras.layers.Dense(2, "sigmoid", name="tags")(inputs)
    model = keras.Model(inputs, {"a": keras.layers.Dense(4)(inputs), "tags": tags})
    for output, kind in (("a", OutputKind.LOGITS), ("tags", OutputKind.SIGMOID)):
        stored = store(model, X, tmp_path / output, output=output, verbose=0)
        assert stored.output_kind == kind
    with pytest.raises(ValueError, match="probabilities"):
        store(model, X, tmp_path / "h", output="tags", dtype="float16", verbose=0)


def test_one_of_several_outputs(tmp_path):
    inputs = keras.Input((6,))
    dense = [
        keras.layers.Dense(n, name=name)(inputs) for n, name in ((4, "a"), (2, "b"))
    ]
    model = keras.Model(inputs, dict(zip("ab", dense, strict=True)))
    with pytest.raises(ValueError, match="may be: 'a', 'b'"):
        store(model, X, tmp_path / "b", verbose=0)
    model.compile("sgd", loss=["mse", "mse"])
    for output in (2, -3):
        with pytest.raises(ValueError, match="may be: 'a', 'b'"):
            store(model, X, tmp_path / "b", output=output, verbose=0)
    stored = store(model, X, tmp_path / "b", output="b", verbose=0)
    expected = model.predict(X, verbose=0)["b"]
    np.testing.assert_allclose(outputs_of(stored), expected, atol=1e-5)


def test_shuffled_sample_ids_are_refused(tmp_path):
    order = np.random.default_rng(0).permutation(70)
    shuffled = ((with_sample_ids(X[o], o),) for o in np.array_split(order, 5))
    with pytest.raises(ValueError, match="unshuffled"):
        store(Counting(), shuffled, tmp_path / "a", verbose=0)
    in_order = ((with_sample_ids(X[o], o),) for o in np.array_split(np.arange(70), 5))
    stored = store(Counting(), in_order, tmp_path / "b", verbose=0)
    np.testing.assert_array_equal(outputs_of(stored), X[:, :4] * 2.0)


@pytest.mark.parametrize("x", [X[:0], iter(())], ids=["arrays", "batches"])
def test_data_without_samples_is_refused(tmp_path, x):
    with pytest.raises(ValueError, match="holds no samples"):
        store(Counting(), x, tmp_path, verbose=0)


def test_a_model_that_is_not_built_is_built(tmp_path):
    model = keras.Sequential([keras.layers.Dense(4)])
    stored = store(model, X, tmp_path, verbose=0)
    metadata = json.loads((tmp_path / METADATA_FILE).read_text())
    assert metadata["teacher"] == ModelTeacher(model).fingerprint()
    assert stored.num_samples == 70


def test_progress_is_shown(tmp_path, capsys):
    store(Counting(), X, tmp_path, batch_size=8)
    assert "9/9" in capsys.readouterr().out


@pytest.mark.invariant(number=10)
def test_outputs_of_several_shapes_are_refused_at_the_first_that_differs(tmp_path):
    tokens = keras.Input((None,), dtype="int32")
    model = keras.Model(tokens, keras.layers.Embedding(9, 3)(tokens))
    lengths = [5, 5, 7, 7, 7]
    batches = (np.ones((4, length), "int32") for length in lengths)
    message = r"from sample 8 on.*the shape \(7, 3\), and \(5, 3\) before.*pad all"
    with pytest.raises(ValueError, match=message):
        store(model, batches, tmp_path, verbose=0)


@pytest.mark.single_backend
@pytest.mark.parametrize("x", [["a", "b"], np.array(["a", "b"])], ids=["list", "array"])
def test_text_is_refused_with_what_to_give(x, tmp_path):
    for texts in (x, iter([(np.array(x), Y[:2])])):
        with pytest.raises(ValueError, match="`x` is text.*model.preprocessor"):
            store(teacher(), texts, tmp_path, verbose=0)
