"""Callbacks and batches of one process of several; none is started."""

import keras
import numpy as np
import pytest

from keras_dtkd import backend
from keras_dtkd.distribution.rank_callbacks import (
    rank_zero_callbacks,
    validate_divisible_batches,
)


@pytest.fixture
def callbacks(tmp_path):
    return [
        keras.callbacks.ModelCheckpoint(str(tmp_path / "model.keras")),
        keras.callbacks.CSVLogger(str(tmp_path / "log.csv")),
        keras.callbacks.EarlyStopping(),
        keras.callbacks.BackupAndRestore(tmp_path / "backup"),
    ]


def test_rank_0_keeps_its_callbacks(callbacks, monkeypatch):
    monkeypatch.setattr(backend, "rank_and_world_size", lambda: (0, 2))
    assert rank_zero_callbacks(callbacks, 1) == (callbacks, 1)


def test_other_ranks_only_read(callbacks, monkeypatch):
    monkeypatch.setattr(backend, "rank_and_world_size", lambda: (1, 2))
    (stopping, restoring), verbose = rank_zero_callbacks(callbacks, 1)
    assert stopping is callbacks[2]
    assert restoring.backup_dir == callbacks[3].backup_dir
    assert not restoring.delete_checkpoint
    assert restoring.save_freq > 2**60
    assert verbose == 0


@pytest.mark.parametrize(
    "rows, batch_size, kwargs, left",
    [
        (30, 16, {}, 14),
        (30, None, {}, 30),
        (48, 6, {}, 6),
        (48, None, {"steps_per_epoch": 8}, 6),
        (44, 8, {"validation_split": 0.3}, 6),
        (48, 16, {"validation_data": (np.zeros((47, 2)),)}, 15),
        (48, 16, {"validation_data": (np.zeros(48),), "validation_batch_size": 6}, 6),
    ],
)
def test_a_batch_that_devices_cannot_share_is_named(
    rows, batch_size, kwargs, left, monkeypatch
):
    monkeypatch.setattr(backend, "rank_and_world_size", lambda: (0, 2))
    monkeypatch.setattr(backend, "batch_divisor", lambda: 8)
    with pytest.raises(ValueError, match=f"a batch of {left}, which JAX .* 4 devices"):
        validate_divisible_batches({"x": np.zeros((rows, 2))}, batch_size, kwargs)


@pytest.mark.parametrize(
    "rows, batch_size, kwargs",
    [
        (48, 16, {}),
        (20, 16, {}),
        (30, 16, {"steps_per_epoch": 1}),
        (40, 16, {"validation_split": 0.2, "validation_batch_size": 3}),
        (48, 16, {"validation_data": iter([])}),
    ],
)
def test_batches_that_devices_can_share_pass(rows, batch_size, kwargs, monkeypatch):
    monkeypatch.setattr(backend, "rank_and_world_size", lambda: (0, 2))
    monkeypatch.setattr(backend, "batch_divisor", lambda: 8)
    validate_divisible_batches(np.zeros((rows, 2)), batch_size, kwargs)


def test_data_that_is_no_array_is_not_looked_at(monkeypatch):
    monkeypatch.setattr(backend, "batch_divisor", lambda: 8)
    validate_divisible_batches(iter([]), 16, {})
