"""`MirroredStrategy` on two virtual devices trains as one device does."""

import keras
import pytest

from tests.distribution.launch import (
    WORKERS,
    Found,
    assert_same,
    assert_same_logs,
    free_port,
    launch,
)
from tests.distribution.workers.common import (
    INTERACTIVE,
    fit,
    interactive,
    sgd,
    state,
)

pytestmark = pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="tf.distribute is TensorFlow's."
)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mirrored")
    launch([[WORKERS / "on_tensorflow.py", folder]], folder)
    return Found(folder)


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    folder = tmp_path_factory.mktemp("taught")
    # Much of it is compiling.
    worker = WORKERS / "interactive_on_tensorflow.py"
    launch([[worker, folder]], folder, timeout=480)
    return Found(folder)


# A teacher from outside the scope, an uneven last batch; a last batch of one row;
# compiled in `fit`, outside the scope; `fit` in the scope; prompts.
@pytest.mark.invariant(number=4)
@pytest.mark.parametrize(
    "name", ["sgd", "adam", "aligned", "uncompiled", "in_scope", "language"]
)
def test_weights_and_logs_are_those_of_one_device(found, name):
    assert_same(found.state(f"{name}/two"), found.state(f"{name}/one"))
    assert_same_logs(found[f"{name}/two"], found[f"{name}/one"])


# With feedback a replica looks ahead as all of them do.
@pytest.mark.invariant(number=4)
@pytest.mark.parametrize("name", INTERACTIVE)
def test_a_teacher_that_learns_becomes_that_of_one_device(taught, name):
    model = interactive(sgd(), **INTERACTIVE[name])
    logs = fit(model, 33)
    assert_same(taught.state(name), state(model))
    assert_same_logs(taught[name], logs)


def test_a_teacher_that_learns_outside_the_scope_is_refused(taught):
    found = taught["teacher_outside"]
    assert found.startswith("ValueError: `Distiller`: ")
    assert "a teacher that is trained too, inside the same" in found


@pytest.mark.parametrize("name", ["distiller_outside", "student_outside"])
def test_a_part_made_outside_the_scope_is_refused(found, name):
    assert found[name].startswith("ValueError: `Distiller`: ")
    assert "was not created under the Distiller's strategy" in found[name]


def test_several_workers_fail_in_keras_and_are_refused_here(tmp_path):
    ports = [free_port(), free_port()]
    worker = WORKERS / "several_workers.py"
    launch([[worker, tmp_path, rank, *ports] for rank in (0, 1)], tmp_path)
    for rank in (0, 1):
        found = Found(tmp_path, rank)
        # Once Keras can do this, so should we.
        assert "PerReplica" in found["plain"]
        assert found["ours"].startswith("ValueError: `Distiller`: Keras 3 cannot `fit`")
