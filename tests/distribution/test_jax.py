"""Several devices, in one process or in two, train as one device does."""

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
    adam,
    distiller,
    fit,
    fit_prompts,
    interactive,
    language,
    sgd,
    state,
)

pytestmark = pytest.mark.skipif(
    keras.config.backend() != "jax", reason="keras.distribution is JAX's."
)
RANKS = (0, 1)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("devices")
    launch([[WORKERS / "on_jax.py", folder]], folder)
    return Found(folder)


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    folder = tmp_path_factory.mktemp("taught")
    # Much of it is compiling.
    worker = WORKERS / "interactive_on_jax.py"
    launch([[worker, folder]], folder, timeout=480)
    return Found(folder)


@pytest.fixture(scope="module")
def language_models(tmp_path_factory):
    pytest.importorskip("keras_hub", reason="KerasHub is not installed")
    folder = tmp_path_factory.mktemp("language_models")
    launch([[WORKERS / "language_on_jax.py", folder]], folder)
    return Found(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("processes"), free_port()
    worker = WORKERS / "jax_process.py"
    launch([[worker, folder, rank, port] for rank in RANKS], folder)
    return folder


# Data-parallel on two and four devices; a Distiller made before the distribution;
# kernels halved, with a teacher made before.
@pytest.mark.invariant(number=4)
@pytest.mark.parametrize(
    "name",
    ["sgd/two", "adam/four", "adam/early_distiller", "adam/halves", "aligned/two"],
)
def test_weights_and_logs_are_those_of_one_device(found, name):
    one = name.split("/")[0] + "/one"
    assert_same(found.state(name), found.state(one))
    assert_same_logs(found[name], found[one])


# With feedback by each estimator, a drawn exam, and the controls; made before the
# distribution; kernels halved.
@pytest.mark.invariant(number=4)
@pytest.mark.parametrize("name", [*INTERACTIVE, "early", "halves"])
def test_a_teacher_that_learns_becomes_that_of_one_device(taught, name):
    model = interactive(sgd(), **INTERACTIVE.get(name, {}))
    logs = fit(model, 48)
    assert_same(taught.state(name), state(model))
    assert_same_logs(taught[name], logs)


def test_a_teacher_that_learns_is_halved_too(taught):
    assert taught["shards"] == [[6, 8]] * 4


def test_variables_are_halved_and_the_teacher_is_untouched(found):
    assert found["shards"] == [[6, 4]] * 4
    assert found["teacher_is_untouched"]


@pytest.mark.invariant(number=4)
def test_language_models_on_a_mesh_are_those_of_one_device(language_models):
    assert_same(language_models.state("mesh"), language_models.state("one"))
    assert_same_logs(language_models["mesh"], language_models["one"])


def test_each_device_has_a_quarter_of_both_language_models(language_models):
    shards = language_models["shards"]
    # Of each: an embedding, four matrices of attention, three behind it.
    assert len(shards) == 2 * 8
    assert all(size == 4 * part for size, part in shards.values())
    assert language_models["teacher_is_untouched"]


@pytest.mark.parametrize(
    "name, batch",
    [
        ("uneven", "43 samples in batches of 16 leave a batch of 11"),
        ("uneven_batch", "44 samples in batches of 15 leave a batch of 15"),
        ("uneven_validation", "41 samples in batches of 16 leave a batch of 9"),
        ("uneven_split", "33 samples in batches of 16 leave a batch of 1"),
    ],
)
def test_a_batch_that_devices_cannot_share_is_refused_at_once(found, name, batch):
    assert found[name].startswith(f"ValueError: `Distiller`: {batch}, which JAX cannot")


# The second: an epoch of a Distiller made before the distribution, resumed by another
# with a teacher made before it. The third: the same by `callbacks.Resume`.
@pytest.mark.invariant(number=4)
@pytest.mark.parametrize(
    "name, make, optimizer, rows",
    [
        ("sgd", distiller, sgd, 44),
        ("resumed", distiller, adam, 48),
        ("by_resume", distiller, adam, 48),
        ("feedback", interactive, sgd, 48),
    ],
)
def test_two_processes_are_one(folder, name, make, optimizer, rows):
    model = make(optimizer())
    logs = fit(model, rows)
    for rank in RANKS:
        found = Found(folder, rank)
        assert found["processes"] == [rank, 2]
        assert_same(found.state(name), state(model))
        assert_same_logs(found[name], logs)


@pytest.mark.invariant(number=4)
def test_rollouts_of_two_processes_are_those_of_one(folder):
    model = language(sgd())
    logs = fit_prompts(model, 32)
    for rank in RANKS:
        found = Found(folder, rank)
        assert_same(found.state("language"), state(model))
        assert_same_logs(found["language"], logs)


def test_rank_0_alone_writes(folder):
    written = {path.name for path in folder.iterdir()}
    assert {"best0.keras", "log0.csv", "backup", "student.keras"} <= written
    assert not {"best1.keras", "log1.csv"} & written


@pytest.mark.parametrize(
    "name, number",
    [("epochs", "first epoch: 0, 1"), ("steps", "steps per epoch: 2, 4")],
)
def test_what_would_hang_is_an_error_in_every_process(folder, name, number):
    for rank in RANKS:
        found = Found(folder, rank)[name]
        assert found.startswith("ValueError: `Distiller`: the 2 processes disagree in ")
        assert number in found
