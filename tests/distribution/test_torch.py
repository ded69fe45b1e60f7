"""Two processes under torchrun, with gloo, train as one does."""

import keras
import numpy as np
import pytest

from tests.distribution.launch import (
    WORKERS,
    Found,
    assert_same,
    assert_same_logs,
    launch,
)
from tests.distribution.workers.common import (
    BATCH,
    INTERACTIVE,
    adam,
    aligned,
    data,
    distiller,
    fit,
    fit_prompts,
    interactive,
    language,
    sgd,
    state,
)

pytestmark = pytest.mark.skipif(
    keras.config.backend() != "torch", reason="torchrun is PyTorch's."
)
RANKS = (0, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("torchrun")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    launch([[*torchrun, WORKERS / "on_torch.py", folder]], folder)
    return folder


@pytest.fixture(scope="module")
def found(folder):
    return [Found(folder, rank) for rank in RANKS]


def loss_scale():
    return keras.optimizers.LossScaleOptimizer(sgd(), initial_scale=1024.0)


@pytest.mark.invariant(number=4)
@pytest.mark.parametrize(
    "name, make",
    [
        ("sgd", lambda: distiller(sgd())),
        ("adam", lambda: distiller(adam())),
        ("accumulation", lambda: distiller(adam(gradient_accumulation_steps=2))),
        ("loss_scale", lambda: distiller(loss_scale())),
        ("aligned", lambda: aligned(sgd())),
        ("after", lambda: distiller(sgd())),
        ("compiled", lambda: distiller(sgd())),
    ],
)
def test_weights_and_logs_are_those_of_one_process(found, name, make):
    model = make()
    logs = fit(model, 43)
    for rank in RANKS:
        assert_same(found[rank].state(name), state(model))
        assert_same_logs(found[rank][name], logs)


@pytest.mark.invariant(number=4)
def test_rollouts_are_those_of_one_process(found):
    model = language(sgd())
    logs = fit_prompts(model, 32)
    for rank in RANKS:
        assert_same(found[rank].state("language"), state(model))
        assert_same_logs(found[rank]["language"], logs)


# With feedback a process looks ahead as all of them do.
@pytest.mark.invariant(number=4)
@pytest.mark.parametrize("name", INTERACTIVE)
def test_a_teacher_that_learns_becomes_that_of_one_process(found, name):
    model = interactive(sgd(), **INTERACTIVE[name])
    logs = fit(model, 43)
    for rank in RANKS:
        assert_same(found[rank].state(name), state(model))
        assert_same_logs(found[rank][name], logs)


def test_a_step_that_is_infinite_in_one_process_is_taken_by_none(found):
    x, y, sample_weight = data(43)
    sample_weight[-1] = np.inf
    model = distiller(loss_scale())
    fit(model, 43, sample_weight=sample_weight)
    for rank in RANKS:
        assert_same(found[rank].state("infinite"), state(model))
        assert all(np.isfinite(array).all() for array in found[rank].state("infinite"))


def test_validation_is_that_of_all_processes_together(found):
    x, y, _ = data(43)
    model = distiller(sgd(), evaluate_distillation=True)
    logs = fit(model, 43, validation_data=(x, y))
    for rank in RANKS:
        assert_same_logs(found[rank]["validation"], logs)


def test_a_callback_may_evaluate_in_one_process(found):
    assert np.isfinite(found[0]["alone"]).all()


@pytest.mark.invariant(number=4)
def test_train_on_batch_is_that_of_one_process(found):
    x, y, sample_weight = data(43)
    model = distiller(sgd())
    for start in range(0, 43, BATCH):
        rows = slice(start, start + BATCH)
        model.train_on_batch(x[rows], y[rows], sample_weight[rows])
    for rank in RANKS:
        assert_same(found[rank].state("train_on_batch"), state(model))


def test_all_processes_resume_from_what_rank_0_wrote(found):
    model = distiller(adam())
    fit(model, 43)
    for rank in RANKS:
        assert_same(found[rank].state("resumed"), state(model))


def test_all_processes_resume_by_resume(folder, found):
    model = distiller(adam())
    fit(model, 43)
    for rank in RANKS:
        assert_same(found[rank].state("by_resume"), state(model))
    assert [path.name for path in (folder / "state").iterdir()] == ["2.weights.h5"]


def test_rank_0_alone_writes(folder, found):
    written = {path.name for path in folder.iterdir()}
    assert {"best0.keras", "log0.csv", "backup"} <= written
    assert not {"best1.keras", "log1.csv"} & written
    # Of the resumed run: a line of names, and its only epoch.
    assert len((folder / "log0.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    "name, message",
    [
        ("epochs", "ValueError: `Distiller`: the 2 processes disagree in first epoch"),
        ("steps", "ValueError: `Distiller`: the 2 processes disagree in steps per epo"),
        ("models", "ValueError: `Distiller`: the 2 processes disagree in variables"),
        ("exams", "RuntimeError: `Distiller`: 1 of 2 processes have ended the ep"),
        ("generators", "RuntimeError: `Distiller`: 1 of 2 processes have ended the ep"),
        ("stopped", "RuntimeError: `Distiller`: 1 of 2 processes have ended the epoch"),
    ],
)
def test_what_would_hang_is_an_error_in_every_process(found, name, message):
    for rank in RANKS:
        assert found[rank][name].startswith(message)
