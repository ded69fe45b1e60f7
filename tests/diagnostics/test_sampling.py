"""Sample batches of any data that `fit` takes."""

import keras
import numpy as np
import pytest

from keras_dtkd import diagnose
from keras_dtkd.diagnostics.sampling import BATCH_SIZE, sample_batches
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


def tf_dataset():
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((X[:24], Y[:24])).batch(8)


def torch_loader():
    torch = pytest.importorskip("torch")
    tensors = [torch.as_tensor(array[:24]) for array in (X, Y)]
    data = torch.utils.data.TensorDataset(*tensors)
    return torch.utils.data.DataLoader(data, batch_size=8)


def generator():
    return ((X[i : i + 8], Y[i : i + 8]) for i in range(0, 24, 8))


@pytest.mark.parametrize("build", [Batches, tf_dataset, torch_loader, generator])
def test_iterable_of_batches_gives_its_first_batches(build):
    samples = sample_batches(build(), 2)
    assert [len(sample.x) for sample in samples] == [8, 8]
    assert np.array_equal(np.concatenate([sample.y for sample in samples]), Y[:16])
    assert len(sample_batches(build(), 9)) == 3


def test_endless_data_gives_its_first_batches():
    assert [len(sample.x) for sample in sample_batches(Endless(), 4)] == [8] * 4


def test_every_batch_of_arrays_is_spread_over_all_samples():
    samples = sample_batches((X, Y), 4)
    assert [len(sample.x) for sample in samples] == [BATCH_SIZE] * 4
    for sample in samples:
        assert np.array_equal(sample.x[:, 0], sample.y)
        assert sample.y.min() < 20 and sample.y.max() > 980
    assert len(np.unique(np.concatenate([sample.y for sample in samples]))) == 256


def test_few_samples_make_one_batch():
    (sample,) = sample_batches((X[:10], Y[:10]), 4)
    assert np.array_equal(sample.y, Y[:10])


@pytest.mark.parametrize("data", [(X,), X])
def test_labels_are_optional(data):
    assert sample_batches(data, 1)[0].y is None


@pytest.mark.invariant(number=10)
@pytest.mark.parametrize(
    "data, batches, message",
    [
        ((X, Y), 0, "batches=0"),
        ((X, Y), 1.5, "batches=1.5"),
        ((X[:0], Y[:0]), 1, "no samples"),
        (iter([]), 1, "no batch"),
        ((X, Y[:5]), 1, "5 labels"),
    ],
)
def test_invalid_data_is_rejected(data, batches, message):
    with pytest.raises(ValueError, match=message):
        sample_batches(data, batches)


def test_last_batch_may_be_short():
    x, y = tiny_models.data(40)
    batches = iter([(x[:32], y[:32]), (x[32:], y[32:])])
    report = diagnose(
        tiny_models.teacher(), tiny_models.student(), batches, LogitMSE(), verbose=0
    )
    assert report["data"] == {"samples": 40.0, "batches": 2.0, "classes": 4.0}
    assert report["teacher"]["accuracy"] == 1.0
