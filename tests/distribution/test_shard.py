"""`shard`: the parts of all processes are the whole, batch by batch."""

import numpy as np
import pytest

from keras_dtkd import backend
from keras_dtkd.distribution.sharding import rank, shard, world_size


@pytest.fixture
def world(monkeypatch):
    """Makes this process one of several."""

    def be(mine, count, even=None):
        monkeypatch.setattr(backend, "rank_and_world_size", lambda: (mine, count))
        monkeypatch.setattr(backend, "batch_divisor", lambda: even)

    return be


def parts(world, count, *arrays, even=None, **kwargs):
    found = []
    for mine in range(count):
        world(mine, count, even)
        found.append(shard(*arrays, **kwargs))
    return found


def test_rank_and_processes(world):
    world(1, 3)
    assert (rank(), world_size()) == (1, 3)


@pytest.mark.invariant(number=4)
@pytest.mark.parametrize("rows", [0, 5, 16, 21, 24, 32])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_equal_steps_see_equal_global_batches(world, rows, count):
    x = np.arange(rows * 3).reshape(rows, 3)
    found = parts(world, count, x, batch_size=8)
    own = 8 // count
    steps = {-(-len(part) // own) for part in found}
    assert len(steps) == 1
    for step in range(steps.pop()):
        together = [part[step * own : (step + 1) * own] for part in found]
        np.testing.assert_array_equal(
            np.concatenate(together), x[step * 8 : (step + 1) * 8]
        )


def test_a_tail_with_fewer_rows_than_processes_is_left_out(world):
    found = parts(world, 4, np.arange(19), batch_size=8)
    assert [part.tolist() for part in found] == [
        [0, 1, 8, 9],
        [2, 3, 10, 11],
        [4, 5, 12, 13],
        [6, 7, 14, 15],
    ]


def test_where_devices_share_evenly_the_rest_of_the_tail_is_left_out(world):
    found = parts(world, 2, np.arange(15), even=4, batch_size=8)
    assert [part.tolist() for part in found] == [
        [0, 1, 2, 3, 8, 9],
        [4, 5, 6, 7, 10, 11],
    ]


def test_nested_arrays_and_none_keep_their_structure(world):
    world(1, 2)
    x = {"a": np.arange(6), "b": (np.arange(12).reshape(6, 2), np.arange(6) * 2)}
    y = [np.arange(6) + 10, np.arange(6) + 20]
    part_x, part_y, part_weight = shard(x, y, None, batch_size=4)
    assert part_x["a"].tolist() == [2, 3, 5]
    assert part_x["b"][0].tolist() == [[4, 5], [6, 7], [10, 11]]
    assert part_x["b"][1].tolist() == [4, 6, 10]
    assert [part.tolist() for part in part_y] == [[12, 13, 15], [22, 23, 25]]
    assert part_weight is None


@pytest.mark.parametrize("batch_size", [0, 1, 3, -2])
def test_a_batch_that_processes_cannot_share_is_refused(world, batch_size):
    world(0, 2)
    with pytest.raises(ValueError, match=f"multiple of 2.*batch_size={batch_size}"):
        shard(np.arange(8), batch_size=batch_size)


def test_a_batch_that_devices_cannot_share_is_refused(world):
    world(0, 2, even=8)
    with pytest.raises(ValueError, match=r"multiple of 8.*batch_size=4"):
        shard(np.arange(8), batch_size=4)


def test_arrays_of_different_lengths_are_refused(world):
    world(0, 2)
    with pytest.raises(ValueError, match=r"same first axis.*\[7, 8\]"):
        shard(np.arange(8), np.arange(7), batch_size=4)


@pytest.mark.parametrize("arrays", [(), (None,), ({},)])
def test_no_arrays_are_refused(world, arrays):
    world(0, 2)
    with pytest.raises(ValueError, match="same first axis.*none"):
        shard(*arrays, batch_size=4)


def test_processes_that_need_the_same_rows_are_refused(world):
    world(0, 4, even=2)
    with pytest.raises(ValueError, match=r"among 2 devices.*4 processes"):
        shard(np.arange(8), batch_size=4)
