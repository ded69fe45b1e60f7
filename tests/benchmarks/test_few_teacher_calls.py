"""Calibrated comparative KD surpasses KL with few teacher calls."""

import os
from pathlib import Path

import keras
import numpy as np
import pytest

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        # The script imports modules of its own folder.
        patch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
        from few_teacher_calls import Study

        path = tmp_path_factory.mktemp("study") / "runs.jsonl"
        return Study(path, [30], range(3), teacher_epochs=150, momentum=0.0)


def accuracies(study, method, rate):
    key = (30, method, rate, "test")
    return np.array([study.train(*key, seed)["accuracy"] for seed in study.seeds])


@pytest.mark.skipif(
    keras.config.backend() != "jax" and os.environ.get("KERAS_DTKD_TESTS") != "all",
    reason="A minute of training: run on JAX; everywhere with KERAS_DTKD_TESTS=all.",
)
def test_ckd_calibrated_surpasses_kl_on_30_teacher_calls(study):
    """At the learning rates selected in the benchmark."""
    with_kl = accuracies(study, "CE + KL (T = 4)", 0.03)
    with_ckd = accuracies(study, "CKD, calibrated", 0.01)
    assert with_ckd.mean() > with_kl.mean() + 2
    assert with_ckd.mean() > 80
