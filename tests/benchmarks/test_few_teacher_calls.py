"""The study of few teacher calls trains, measures, and goes on where it stopped.

That calibrated CKD surpasses KL is in benchmarks/results/few_teacher_calls.md: eight
seeds of 2,000 steps.
"""

from pathlib import Path

import pytest

pytest.importorskip("sklearn")
KEY = 30, "CKD, calibrated", 0.03, "test", 0


@pytest.fixture(scope="module")
def study_class():
    with pytest.MonkeyPatch.context() as patch:
        # The script imports modules of its own folder.
        patch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
        from few_teacher_calls import Study

        yield Study


def test_a_run_is_trained_once(study_class, tmp_path):
    def start():
        path = tmp_path / "runs.jsonl"
        return study_class(path, [30], [0], teacher_epochs=5, momentum=0.9, steps=200)

    def fail(*key):
        raise AssertionError(f"{key} is trained again")

    study = start()
    accuracy = study.runs.get(KEY, study.train)["accuracy"]
    # Chance is 10.
    assert accuracy > 40
    assert start().runs.get(KEY, fail)["accuracy"] == accuracy
