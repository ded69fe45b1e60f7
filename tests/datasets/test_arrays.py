"""Arrays equal the prepared data, in its order; missing data is a single error."""

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
def test_arrays_equal_the_prepared_data(tmp_path, name):
    written = write(tmp_path, name)
    for (x, y), expected in zip(load_arrays(name, tmp_path), written, strict=True):
        np.testing.assert_array_equal(x, expected[0])
        np.testing.assert_array_equal(y, expected[1])
        assert x.dtype == "uint8" and y.dtype == "int32"


def test_data_dir_expands_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    written = write(tmp_path / "data", "cifar10")
    (images, _), _ = load_arrays("cifar10", "~/data", download=False)
    np.testing.assert_array_equal(images, written[0][0])


def test_array_record_needs_no_tensorflow(tmp_path):
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
np.savez({str(tmp_path / "arrays.npz")!r}, x=x, y=y)
assert "tensorflow" not in sys.modules
try:
    cifar100(data_dir={str(tmp_path)!r})
except ImportError as error:
    assert "`cifar100` requires TensorFlow" in str(error), error
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
    arrays = np.load(tmp_path / "arrays.npz")
    np.testing.assert_array_equal(arrays["x"], written[0][0])
    np.testing.assert_array_equal(arrays["y"], written[0][1])


def test_digits_equal_scikit_learns():
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    (x_train, y_train), (x_test, y_test) = load_arrays("digits")
    assert x_train.shape == (1297, 8, 8, 1) and x_test.shape == (500, 8, 8, 1)
    x, y = np.concatenate([x_train, x_test]) / 255, np.concatenate([y_train, y_test])

    def sort(images, labels):
        samples = np.column_stack([labels, np.rint(images.reshape(-1, 64))])
        return samples[np.lexsort(samples.T)]

    expected = sort(*load_digits(return_X_y=True))
    np.testing.assert_array_equal(sort(x * 16, y), expected)
    assert np.bincount(y_test).min() >= 48
    assert x_train.dtype == "uint8" and y_train.dtype == "int32"


def test_validation_images_are_removed_from_the_training_images(tmp_path):
    (images, labels), test = write(tmp_path, "cifar100")
    train, validation, x_test = load_arrays("cifar100", tmp_path, validation=0.25)
    assert len(train[0]) == 15 and len(validation[0]) == 5
    held_out = [1, 8, 10, 18, 19]
    np.testing.assert_array_equal(validation[0], images[held_out])
    np.testing.assert_array_equal(train[1], np.delete(labels, held_out))
    np.testing.assert_array_equal(x_test[0], test[0])


def error_message(**arguments):
    """The message of the `FileNotFoundError`, which must show no chained error."""
    with pytest.raises(FileNotFoundError) as caught:
        cifar100(**arguments)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    message = str(caught.value)
    assert "\n" not in message
    assert "`download=True`" in message and "`data_dir=`" in message
    return message


@pytest.fixture
def no_download(monkeypatch):
    def fail(self, *args, **kwargs):
        raise AssertionError("the download started")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)


def test_missing_data_is_a_single_error_with_both_remedies(tmp_path, no_download):
    message = error_message(data_dir=tmp_path, download=False)
    assert f"`cifar100` is not in {tmp_path}" in message


def test_without_a_connection_no_download_is_attempted(
    tmp_path, no_download, monkeypatch
):
    def offline(request, timeout):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    message = error_message(data_dir=tmp_path)
    assert "no connection to www.cs.toronto.edu" in message
    assert "Name or service not known" in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "answer", [None, urllib.error.HTTPError("", 403, "", {}, None)]
)
def test_a_failed_download_reports_its_reason(tmp_path, monkeypatch, answer):
    def online(request, timeout):
        if answer:
            raise answer
        return open(__file__)

    def fail(self, file_format):
        raise RuntimeError("checksum\nand a long traceback")

    monkeypatch.setattr(urllib.request, "urlopen", online)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    message = error_message(data_dir=tmp_path)
    assert "RuntimeError: checksum" in message and "traceback" not in message


def test_downloaded_data_is_read(tmp_path, monkeypatch):
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


def test_missing_tensorflow_datasets_names_the_package_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match="pip install tensorflow-datasets importlib_"):
        load_arrays("cifar100")


def test_missing_scikit_learn_names_the_package_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match="pip install scikit-learn"):
        load_arrays("digits")


def test_an_unknown_name_raises_with_the_known_names():
    with pytest.raises(ValueError, match=r"unknown data set 'cifar'.*'cifar100'"):
        load_arrays("cifar")


@pytest.mark.parametrize("fraction", [-0.1, 1.1])
def test_a_fraction_out_of_range_raises_before_reading(fraction):
    with pytest.raises(
        ValueError, match="`load_arrays`: `validation` must be a finite"
    ):
        load_arrays("cifar100", "nowhere", validation=fraction, download=False)
