"""A few batches of anything `fit` takes."""

import keras
import numpy as np
import pytest

from keras_dtkd import diagnose
from keras_dtkd.diagnostics.samples import BATCH, gather
from keras_dtkd.losses import LogitMSE
from tests import tiny_models

X = np.arange(1000)[:, None].astype("float32")
Y = np.arange(1000)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return X[index * 8 :][:8], Y[index * 8 :][:8]


class Endless(Batches):
    @property
    def num_batches(self):
        return None


def tensors():
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((X[:24], Y[:24])).batch(8)


def loader():
    torch = pytest.importorskip("torch")
    parts = [torch.as_tensor(array[:24]) for array in (X, Y)]
    data = torch.utils.data.TensorDataset(*parts)
    return torch.utils.data.DataLoader(data, batch_size=8)


def iterator():
    return ((X[i : i + 8], Y[i : i + 8]) for i in range(0, 24, 8))


@pytest.mark.parametrize("make", [Batches, tensors, loader, iterator])
def test_of_data_that_gives_batches_the_first(make):
    found = gather(make(), 2)
    assert [len(sample.x) for sample in found] == [8, 8]
    assert np.array_equal(np.concatenate([sample.y for sample in found]), Y[:16])
    assert len(gather(make(), 9)) == 3


def test_data_without_an_end_has_first_batches_too():
    assert [len(sample.x) for sample in gather(Endless(), 4)] == [8] * 4


def test_of_arrays_rows_from_everywhere_in_every_batch():
    found = gather((X, Y), 4)
    assert [len(sample.x) for sample in found] == [BATCH] * 4
    for sample in found:
        assert np.array_equal(sample.x[:, 0], sample.y)
        assert sample.y.min() < 20 and sample.y.max() > 980
    assert len(np.unique(np.concatenate([sample.y for sample in found]))) == 256


def test_few_rows_make_one_batch():
    (sample,) = gather((X[:10], Y[:10]), 4)
    assert np.array_equal(sample.y, Y[:10])


@pytest.mark.parametrize("data", [(X,), X])
def test_labels_may_be_missing(data):
    assert gather(data, 1)[0].y is None


@pytest.mark.invariant(number=10)
@pytest.mark.parametrize(
    "data, batches, found",
    [
        ((X, Y), 0, "batches=0"),
        ((X, Y), 1.5, "batches=1.5"),
        ((X[:0], Y[:0]), 1, "no batch"),
        (iter([]), 1, "no batch"),
        ((X, Y[:5]), 1, "5 labels"),
    ],
)
def test_a_wrong_use_is_refused(data, batches, found):
    with pytest.raises(ValueError, match=found):
        gather(data, batches)


def test_a_short_last_batch_is_no_trouble():
    x, y = tiny_models.data(40)
    batches = iter([(x[:32], y[:32]), (x[32:], y[32:])])
    report = diagnose(
        tiny_models.teacher(), tiny_models.student(), batches, LogitMSE(), verbose=0
    )
    assert report["data"] == {"samples": 40.0, "batches": 2.0, "classes": 4.0}
    assert report["teacher"]["accuracy"] == 1.0
