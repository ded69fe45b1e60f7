"""Arrays are what is in the folder, in its order; a missing folder is one error."""

import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from keras_dtkd.datasets import cifar100, load_arrays
from tests.datasets.conftest import write

tfds = pytest.importorskip("tensorflow_datasets")


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fashion_mnist"])
def test_equals_what_was_written(tmp_path, name):
    written = write(tmp_path, name)
    for found, expected in zip(load_arrays(name, tmp_path), written, strict=True):
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])
        assert found[0].dtype == "uint8" and found[1].dtype == "int32"


def test_a_folder_may_lie_in_ones_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    written = write(tmp_path / "data", "cifar10")
    (found, _), _ = load_arrays("cifar10", "~/data", download=False)
    np.testing.assert_array_equal(found, written[0][0])


def test_array_record_is_read_without_tensorflow(tmp_path):
    written = write(tmp_path, "cifar100", "array_record")
    code = f"""
import importlib.machinery as machinery
find = machinery.PathFinder.find_spec
machinery.PathFinder.find_spec = classmethod(
    lambda c, name, *rest: None if name == "tensorflow" else find(name, *rest))
import sys
import numpy as np
from keras_dtkd.datasets import cifar100, load_arrays
(x, y), test = load_arrays("cifar100", {str(tmp_path)!r})
np.savez({str(tmp_path / "found.npz")!r}, x=x, y=y)
assert "tensorflow" not in sys.modules
try:
    cifar100(data_dir={str(tmp_path)!r})
except ImportError as error:
    assert "`cifar100` needs TensorFlow" in str(error), error
else:
    raise SystemExit("no error")
"""
    environment = {"KERAS_BACKEND": "jax", "PATH": "", "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[2],
    )
    if "No module named 'jax'" in run.stderr:
        pytest.skip("a backend without TensorFlow is not installed")
    assert run.returncode == 0, run.stderr
    found = np.load(tmp_path / "found.npz")
    np.testing.assert_array_equal(found["x"], written[0][0])
    np.testing.assert_array_equal(found["y"], written[0][1])


def test_digits_are_scikit_learn_s():
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    (x_train, y_train), (x_test, y_test) = load_arrays("digits")
    assert x_train.shape == (1297, 8, 8, 1) and x_test.shape == (500, 8, 8, 1)
    found = np.concatenate([x_train, x_test]) / 255
    theirs, labels = load_digits(return_X_y=True)

    def in_order(images, labels):
        rows = np.column_stack([labels, np.rint(images.reshape(-1, 64))])
        return rows[np.lexsort(rows.T)]

    np.testing.assert_array_equal(
        in_order(found * 16, np.concatenate([y_train, y_test])),
        in_order(theirs, labels),
    )
    assert np.bincount(y_test).min() >= 48
    assert x_train.dtype == "uint8" and y_train.dtype == "int32"


def test_a_validation_share_comes_off_the_training_images(tmp_path):
    (images, labels), test = write(tmp_path, "cifar100")
    train, validation, found = load_arrays("cifar100", tmp_path, validation=0.25)
    assert len(train[0]) == 15 and len(validation[0]) == 5
    kept = [1, 8, 10, 18, 19]
    np.testing.assert_array_equal(validation[0], images[kept])
    np.testing.assert_array_equal(train[1], np.delete(labels, kept))
    np.testing.assert_array_equal(found[0], test[0])


def refused(**arguments):
    """The message of the one error, without those of others behind it."""
    with pytest.raises(FileNotFoundError) as caught:
        cifar100(**arguments)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    message = str(caught.value)
    assert "\n" not in message
    assert "`download=True`" in message and "`data_dir=`" in message
    return message


@pytest.fixture
def never_prepared(monkeypatch):
    def fail(self, *args, **kwargs):
        raise AssertionError("the download began")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)


def test_missing_data_is_one_error_with_two_ways_out(tmp_path, never_prepared):
    message = refused(data_dir=tmp_path, download=False)
    assert f"`cifar100` is not in {tmp_path}" in message


def test_without_a_connection_it_ends_before_the_download(
    tmp_path, never_prepared, monkeypatch
):
    def offline(request, timeout):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    message = refused(data_dir=tmp_path)
    assert "no connection to www.cs.toronto.edu" in message
    assert "Name or service not known" in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "answer", [None, urllib.error.HTTPError("", 403, "", {}, None)]
)
def test_a_download_that_fails_gives_its_reason(tmp_path, monkeypatch, answer):
    def online(request, timeout):
        if answer:
            raise answer
        return open(__file__)

    def fail(self, file_format):
        raise RuntimeError("checksum\nand a long tale")

    monkeypatch.setattr(urllib.request, "urlopen", online)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    message = refused(data_dir=tmp_path)
    assert "RuntimeError: checksum" in message and "tale" not in message


def test_a_download_makes_it_readable(tmp_path, monkeypatch):
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: open(__file__))

    def prepare(self, file_format):
        written.extend(write(tmp_path / "elsewhere", "cifar100", file_format))
        self.data_path.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "elsewhere/cifar100" / self.data_path.name).rename(self.data_path)
        self.__init__(data_dir=tmp_path)

    written = []
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", prepare)
    (images, _), _ = load_arrays("cifar100", tmp_path)
    np.testing.assert_array_equal(images, written[0][0])


def test_tensorflow_datasets_missing_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match="pip install tensorflow-datasets importlib_"):
        load_arrays("cifar100")


def test_scikit_learn_missing_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match="pip install scikit-learn"):
        load_arrays("digits")


def test_an_unknown_name_is_refused_with_the_list():
    with pytest.raises(ValueError, match=r"no data set 'cifar'.*'cifar100'"):
        load_arrays("cifar")


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_out_of_range_is_refused_before_reading(share):
    with pytest.raises(ValueError, match="`arrays`: `validation` is a share"):
        load_arrays("cifar100", "nowhere", validation=share, download=False)
