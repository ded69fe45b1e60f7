"""What a folder of stored outputs must never do: answer for other samples."""

import json
import multiprocessing
import os
import sys
import threading

import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.core.atomic_io import lock_folder
from keras_dtkd.core.stored_folder import METADATA_FILE
from keras_dtkd.losses import KD
from keras_dtkd.teachers import Stored, store, with_sample_ids
from keras_dtkd.teachers.sample_signatures import compute_signatures, find_differing
from keras_dtkd.teachers.stored import OUTPUTS_FILE, SIGNATURES_FILE
from tests.tiny_models import data, numbers, same, student, teacher

pytestmark = pytest.mark.invariant(number=10)

X, Y = data(70)
OTHER = data(70, seed=5)[0]


@pytest.fixture
def folder(tmp_path):
    store(teacher(), X, tmp_path / "stored", batch_size=16, verbose=0)
    return tmp_path / "stored"


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(sys.modules[store.__module__], "CHUNK_SIZE", 16)


def refused(folder, x, y=None):
    d = Distiller(Stored(folder), student(), KD())
    before = numbers(d.student)
    with pytest.raises(ValueError, match="are not the inputs whose outputs are stored"):
        d.fit(x, y, verbose=0)
    assert same(before, d.student)


@pytest.mark.parametrize("labels", [None, Y])
def test_other_samples_or_another_order_are_refused(folder, labels):
    refused(folder, X[::-1].copy(), labels)
    refused(folder, OTHER, labels)
    refused(folder, 255 * X, labels)
    refused(folder, np.roll(X, 1, axis=0), labels)
    refused(folder, X[:, ::-1].copy(), labels)


def test_sample_ids_of_other_samples_are_refused(folder):
    chosen = np.arange(10, 50)
    refused(folder, with_sample_ids(X[chosen], chosen - 1))
    d = Distiller(Stored(folder), student(), KD())
    d.fit(with_sample_ids(X[chosen], chosen), verbose=0)


def test_the_same_samples_are_known_in_any_precision(folder):
    for x in (X, X.astype("float16"), X.astype("float64"), X * np.float32(1.0001)):
        Distiller(Stored(folder), student(), KD()).fit(x, verbose=0)


@pytest.mark.parametrize("kind", ["images", "series"])
def test_smooth_standardized_inputs_in_another_order_or_flipped_are_found(kind):
    """They have one size, and next to nothing in a vector that oscillates."""
    generator = np.random.default_rng(0)
    coarse = generator.normal(size=(64, 4, 4, 3) if kind == "images" else (64, 4, 2))
    x = coarse.astype("float32")
    for axis in range(1, x.ndim - 1):
        places = np.linspace(0, 3, 96)
        low = np.minimum(places.astype(int), 2)
        share = (places - low).reshape(-1, *(1,) * (x.ndim - axis - 1))
        x = (1 - share) * x.take(low, axis) + share * x.take(low + 1, axis)
    axes = tuple(range(1, x.ndim))
    x = (x - x.mean(axes, keepdims=True)) / x.std(axes, keepdims=True)
    expected = compute_signatures(x)
    assert not find_differing(compute_signatures(x.astype("float16")), expected).size
    # As another library decodes or resizes them.
    other = x + 0.002 * generator.normal(size=x.shape)
    assert not find_differing(compute_signatures(other), expected).size
    for changed in (np.roll(x, 1, 0), *(np.flip(x, axis) for axis in axes[:-1])):
        assert len(find_differing(compute_signatures(changed), expected)) >= 60


def test_signatures_of_all_kinds_of_inputs():
    tokens = np.random.default_rng(0).integers(0, 1000, (8, 5))
    words = np.array(["one", "two", "three", "four"])
    for x in (X, tokens, words, {"a": X[:8], "b": tokens}, [X[:8], None], X[:, 0]):
        found = compute_signatures(x)
        assert found.dtype == "float32" and np.isfinite(found).all()
        assert not find_differing(found, compute_signatures(x)).size
        assert len(find_differing(found[1:], found[:-1])) == len(found) - 1
    assert not find_differing(*2 * [compute_signatures(np.zeros((4, 3)))]).size


@pytest.mark.parametrize("name", [OUTPUTS_FILE, SIGNATURES_FILE])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing"])
def test_a_damaged_file_is_refused(folder, name, damage):
    path = folder / name
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[-20] ^= 1
        path.write_bytes(content)
    elif damage == "truncated":
        path.write_bytes(content[:-8])
    else:
        path.unlink()
    with pytest.raises(ValueError, match=f"{name} is missing, damaged"):
        Stored(folder)
    with pytest.raises(ValueError, match=f"{name} is missing, damaged"):
        store(teacher(), X, folder, verbose=0)


METADATA = {
    "no JSON": ("{", "cannot be read"),
    "no text": (b"\xff\xfe\x00", "cannot be read"),
    "a list": ("[]", "holds no dict"),
    "empty": ("{}", "lacks"),
    "unknown kind": ('"output_kind": "logit"', "must be one of 'logits'"),
}


@pytest.mark.parametrize("case", METADATA)
def test_damaged_metadata_is_refused(folder, case):
    content, message = METADATA[case]
    path = folder / METADATA_FILE
    if case == "unknown kind":
        metadata = json.loads(path.read_text())
        path.write_text(json.dumps({**metadata, "output_kind": "logit"}))
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content)
    with pytest.raises(ValueError, match=message):
        Stored(folder)


class Dies(Exception):
    pass


class Batches:
    """Batches of 8; the process dies after some samples."""

    def __init__(self, x, until=70):
        self.x, self.until = x, until

    def __len__(self):
        return 9

    def __iter__(self):
        for i in range(0, 70, 8):
            if i >= self.until:
                raise Dies
            yield self.x[i : i + 8]


def interrupted(tmp_path):
    with pytest.raises(Dies):
        store(teacher(), Batches(X, until=40), tmp_path / "stored", verbose=0)
    return tmp_path / "stored"


def test_going_on_with_other_data_is_refused(tmp_path, small_chunks):
    folder = interrupted(tmp_path)
    mixed = np.concatenate([X[:8], OTHER[8:]])
    with pytest.raises(ValueError, match="outputs of other samples, from sample 8 on"):
        store(teacher(), Batches(mixed), folder, verbose=0)
    found = store(teacher(), Batches(X), folder, verbose=0)
    whole = store(teacher(), X, tmp_path / "whole", batch_size=8, verbose=0)
    np.testing.assert_allclose(
        np.load(folder / OUTPUTS_FILE), np.load(tmp_path / "whole" / OUTPUTS_FILE)
    )
    assert found.num_samples == whole.num_samples == 70


@pytest.mark.parametrize("damage", ["flipped", "truncated"])
def test_a_damaged_part_is_refused(tmp_path, small_chunks, damage):
    folder = interrupted(tmp_path)
    path = sorted((folder / "chunks").glob("*.npz"))[1]
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 3] ^= 1
    else:
        content = content[: len(content) // 2]
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged.*store everything again"):
        store(teacher(), Batches(X), folder, verbose=0)


def _hold(folder, is_held, may_end):
    from keras_dtkd.core.atomic_io import lock_folder

    with lock_folder(folder):
        is_held.set()
        may_end.wait(60)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such lock.")
def test_a_second_writer_is_refused_until_the_first_has_ended(tmp_path):
    context = multiprocessing.get_context("spawn")
    is_held, may_end = context.Event(), context.Event()
    folder = tmp_path / "stored"
    process = context.Process(target=_hold, args=(folder, is_held, may_end))
    process.start()
    try:
        assert is_held.wait(120)
        with pytest.raises(ValueError, match="another process is writing"):
            store(teacher(), X, folder, verbose=0)
        # A lock ends with its process, however that ends.
        process.kill()
        process.join()
        assert store(teacher(), X, folder, verbose=0).num_samples == 70
    finally:
        process.kill()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such lock.")
def test_of_several_that_train_together_the_others_wait(tmp_path, monkeypatch):
    module = sys.modules[store.__module__]
    monkeypatch.setattr(module.backend, "rank_and_world_size", lambda: (1, 2))
    model, found = teacher(), []
    waiting = threading.Thread(
        target=lambda: found.append(store(model, X, tmp_path, verbose=0))
    )
    with lock_folder(tmp_path):
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive() and not (tmp_path / METADATA_FILE).exists()
    waiting.join(60)
    assert found[0].num_samples == 70 and not (tmp_path / ".lock").exists()
