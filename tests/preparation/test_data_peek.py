"""Whatever `fit` takes is looked at first, and nothing of it is lost."""

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.core.arrays import describe_nan_inputs, find_nan_sample, is_arrays
from keras_dtkd.losses import KD
from keras_dtkd.preparation import data_peek
from keras_dtkd.preparation.data_peek import Sample, peek, peek_validation_data
from tests.tiny_models import close, data, distiller, numbers, student, teacher

X, Y = data(32)
ROWS = [slice(start, start + 8) for start in range(0, 32, 8)]


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return len(ROWS)

    def __getitem__(self, index):
        return X[ROWS[index]], Y[ROWS[index]]


def generator():
    for rows in ROWS:
        yield X[rows], Y[rows]


def tf_dataset():
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)


def data_loader():
    torch = pytest.importorskip("torch")
    rows = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    return torch.utils.data.DataLoader(rows, batch_size=8)


class Steps(keras.callbacks.Callback):
    """How many steps there were. TensorFlow's optimizer counts one too many."""

    count = 0

    def on_train_batch_end(self, batch, logs=None):
        self.count += 1


KINDS = {
    "generator": generator,
    "iterator": lambda: iter(list(generator())),
    "PyDataset": Batches,
    "tf.data": tf_dataset,
    "DataLoader": data_loader,
}


@pytest.fixture(scope="module")
def by_arrays():
    small = student()
    d = distiller(student=small, optimizer=keras.optimizers.SGD(0.1))
    d.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    return numbers(small)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_trains_on_every_batch_once(kind, by_arrays):
    small = student()
    d = distiller(student=small, optimizer=keras.optimizers.SGD(0.1))
    steps = Steps()
    try:
        d.fit(KINDS[kind](), shuffle=False, callbacks=[steps], verbose=0)
    except ValueError as error:
        if "Unrecognized data type" not in str(error):
            raise
        pytest.skip("Keras does not take it")
    # Four batches, in this order: nothing was lost to the peek.
    assert steps.count == len(ROWS)
    assert close(small, by_arrays)


@pytest.mark.parametrize("kind", ["generator", "PyDataset"])
def test_an_uncompiled_distiller_compiles_for_the_labels_of_any_data(kind):
    steps = Steps()
    d = Distiller(teacher(), student(), KD(), evaluate_distillation=True)
    logs = d.fit(
        KINDS[kind](), validation_data=Batches(), callbacks=[steps], verbose=0
    ).history
    assert {"accuracy", "task_loss", "val_accuracy", "val_kd"} <= set(logs)
    assert steps.count == len(ROWS)


def test_evaluate_loses_no_batch_of_a_generator():
    d = distiller()
    d.compile(d.optimizer, d.loss, metrics=["accuracy"])
    whole = d.evaluate(X, Y, batch_size=8, verbose=0)
    assert d.evaluate(generator(), verbose=0) == pytest.approx(whole, rel=1e-5)


def test_a_generator_without_labels_trains_on_every_batch():
    steps = Steps()
    d = Distiller(teacher(), student(), KD())
    d.fit(((x,) for x, _ in generator()), callbacks=[steps], verbose=0)
    assert steps.count == len(ROWS)


def test_an_endless_generator_may_be_given_with_its_steps():
    def endless():
        while True:
            yield X[:8], Y[:8]

    d, steps = distiller(), Steps()
    d.fit(endless(), steps_per_epoch=3, epochs=2, callbacks=[steps], verbose=0)
    assert steps.count == 6


def test_samples_of_arrays_are_spread_over_all_of_them():
    x = np.arange(1000.0)[:, None]
    sample, same = peek(x, x[:, 0])
    assert same is x
    assert sample.x[0] == 0 and sample.x[-1] == 999 and len(sample.x) < 300
    assert np.array_equal(sample.y, sample.x[:, 0])


@pytest.mark.parametrize("batch_size", [None, 5, 7, 1000])
def test_samples_of_arrays_come_in_whole_batches(batch_size):
    for length in (1, 6, 64, 1000):
        sample, _ = peek(np.zeros((length, 2)), None, batch_size)
        assert 0 < len(sample.x) <= length and len(sample.x) % sample.batch_size == 0
        assert sample.y is None


def test_nested_arrays_of_any_library_are_taken_by_row():
    x = {"a": X, "b": keras.ops.convert_to_tensor(X), "c": X.tolist()}
    x["c"] = np.array(x["c"])
    sample, _ = peek(x, keras.ops.convert_to_tensor(Y))
    assert np.array_equal(sample.x["a"], sample.x["b"])
    assert np.array_equal(sample.x["a"], sample.x["c"])
    assert isinstance(sample.y, np.ndarray) and len(sample.y) == len(sample.x["a"])


def test_an_iterator_gets_its_first_batch_back():
    sample, rest = peek(iter(list(generator())))
    assert np.array_equal(sample.x, X[:8]) and np.array_equal(sample.y, Y[:8])
    assert [len(y) for _, y in rest] == [8] * 4


def test_peek_validation_data_gives_all_labels_of_arrays_or_a_first_batch():
    assert np.array_equal(peek_validation_data((X, Y)).y, Y)
    assert peek_validation_data((X,)).y is None
    assert np.array_equal(peek_validation_data(Batches()).y, Y[:8])
    assert peek_validation_data(generator()) is None
    assert peek_validation_data(None) is None


def test_is_arrays():
    assert is_arrays(X) and is_arrays({"a": X}) and is_arrays([X, X])
    assert not is_arrays(generator()) and not is_arrays(Batches())


@pytest.mark.invariant(number=10)
@pytest.mark.parametrize("y", [list(Y), Y.tolist(), list("abcd") * 8])
def test_labels_in_a_list_raise(y):
    d = Distiller(teacher(), student(), KD())
    for run in (d.fit, d.evaluate, d.train_on_batch):
        with pytest.raises(ValueError, match=r"the labels are a list.*np.asarray\(y\)"):
            run(X, y)
    with pytest.raises(ValueError, match="the validation labels are a list"):
        d.fit(X, Y, validation_data=(X, y), verbose=0)


@pytest.mark.invariant(number=10)
def test_inputs_in_a_list_raise():
    d = Distiller(teacher(), student(), KD())
    with pytest.raises(ValueError, match=r"the inputs are a list.*np.asarray\(x\)"):
        d.fit(X.tolist(), Y, verbose=0)
    with pytest.raises(ValueError, match="6 inputs and 32 labels.*np.stack"):
        d.fit(list(X), Y, verbose=0)


@pytest.mark.invariant(number=10)
def test_data_without_samples_raises():
    d = Distiller(teacher(), student(), KD())
    for run in (d.fit, d.evaluate, d.train_on_batch):
        with pytest.raises(ValueError, match="the data holds no samples"):
            run(X[:0], Y[:0])
    for batches in ([], iter(())):
        with pytest.raises(ValueError, match="the data holds no samples"):
            peek(batches)
    with pytest.raises(ValueError, match="the validation data holds no samples"):
        d.fit(X, Y, validation_data=(X[:0], Y[:0]), verbose=0)


@pytest.mark.invariant(number=10)
@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="TensorFlow's own.")
def test_ragged_inputs_raise():
    import tensorflow as tf

    x = tf.ragged.constant([[1.0], [2.0, 3.0]])
    d = Distiller(teacher(), student(), KD())
    for args in ((x, Y[:2]), (tf.data.Dataset.from_tensors((x, Y[:2])),)):
        with pytest.raises(ValueError, match=r"ragged.*Pad them.*x.to_tensor\(\)"):
            d.fit(*args, verbose=0)


def test_a_sample_with_nan_is_found_in_memory_alone(tmp_path):
    holed = np.ones((9, 2), "float16")
    holed[4, 1] = np.nan
    with_infinities = np.array([[np.inf], [-np.inf]])
    assert find_nan_sample({"a": Y.astype(int), "b": None, "c": holed}) == 4
    assert find_nan_sample([X, with_infinities, np.zeros((0, 2))]) is None
    np.save(tmp_path / "x.npy", holed)
    assert find_nan_sample(np.load(tmp_path / "x.npy", mmap_mode="r")) is None


def test_nan_inputs_are_described():
    holed = X.copy()
    holed[3, 1] = holed[5] = np.nan
    assert (
        describe_nan_inputs(X) == ""
        and describe_nan_inputs({"a": X, "b": Y, "c": Y.astype(str)}) == ""
    )
    assert describe_nan_inputs(holed) == "its inputs (2 of 32 samples checked)"
    assert describe_nan_inputs({"a": X, "b": [Y, holed]}) == (
        "input 'b/1' (2 of 32 samples checked)"
    )


def test_of_a_large_vocabulary_few_sequences_are_looked_at(monkeypatch):
    monkeypatch.setattr(data_peek, "MAX_OUTPUTS", 3 * 5 * 7)
    model = keras.Sequential([keras.Input((None,)), keras.layers.Embedding(7, 7)])
    x, y = np.zeros((8, 5), "int32"), np.ones((8, 5))
    sample = data_peek.limit_rows(Sample(x, y, 8, None), model)
    assert len(sample.x) == len(sample.y) == sample.batch_size == 3
    images = Sample(np.zeros((8, 6)), np.ones(8), 8)
    assert data_peek.limit_rows(images, student()) is images
