"""The lessons on gradients and feedback run, say what they promise, and draw."""

import os

import keras
import pytest

from tests.scripts import EXAMPLES, SMOKE_RUN, run

# Compiling these many small networks takes most of a smoke run, a minute on two cores:
# each runs on one backend here. Their pages tell of full runs on all three.
WHERE = {
    "robust_student": "torch",
    "teacher_that_listens": "tensorflow",
    "temperature_policy": "jax",
}
ROWS = {
    "robust_student": [
        "teacher",
        "student alone",
        *("KD", "KDIGA 0.1", "KDIGA 1", "KDIGA 3"),
        *("penalty 0.1", "penalty 1", "penalty 3"),
    ],
    "teacher_that_listens": [
        *("KD", "IKD", "exam for the teacher", "exam for the student"),
    ],
    "temperature_policy": [
        *("student alone", "T = 4", "DTKD's", "policy, learning", "policy, learned"),
        *("dealt at random", "their mean"),
    ],
}


@pytest.fixture(scope="module")
def lessons(tmp_path_factory):
    """From a lesson's name to what it prints and the folder it leaves."""
    pytest.importorskip("sklearn", reason="The lessons need scikit-learn's digits.")
    pytest.importorskip("matplotlib", reason="The lessons draw with matplotlib.")
    done = {}

    def lesson(name):
        if os.environ.get("KERAS_DTKD_LESSONS") != "all":
            if keras.config.backend() != WHERE[name]:
                pytest.skip(
                    f"This lesson is run on {WHERE[name]}; on every backend with "
                    "KERAS_DTKD_LESSONS=all."
                )
        if name not in done:
            folder = tmp_path_factory.mktemp(name) / "made"
            script = EXAMPLES / f"{name}.py"
            done[name] = run(script, KERAS_DTKD_OUT=str(folder), **SMOKE_RUN), folder
        return done[name]

    return lesson


def line_of(printed, head, row, width):
    """The one line of the table below `head` that begins with `row`."""
    table = printed.partition(head)[2].partition("\n\n")[0].splitlines()
    (line,) = [line for line in table if line[:width].rstrip() == row]
    return line[width:]


@pytest.mark.parametrize("name", WHERE)
def test_a_lesson_says_that_a_smoke_run_is_one(lessons, name):
    assert "SMOKE RUN" in lessons(name)[0]


@pytest.mark.parametrize("name", WHERE)
def test_a_lesson_draws_its_picture_and_leaves_nothing_else(lessons, name):
    (picture,) = lessons(name)[1].iterdir()
    assert picture.name == f"{name}.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 20_000


@pytest.mark.parametrize("row", ROWS["robust_student"])
def test_robust_student_has_every_row(lessons, row):
    line = line_of(lessons("robust_student")[0], "clean %", row, 14)
    # Chance is 10; a few epochs give 70 and more.
    assert float(line.split()[0]) > 40


def test_robust_student_says_what_part_of_the_way_it_went(lessons):
    printed, _ = lessons("robust_student")
    gains = printed.partition("Beside KD")[2].partition("\n\n")[0]
    head, *rows = gains.splitlines()[1:]
    assert head.endswith("% of the way to the teacher")
    (line,) = [line for line in rows if line.startswith("KDIGA 1 ")]
    assert line.count(" ± ") == 3


@pytest.mark.parametrize("row", ROWS["teacher_that_listens"])
def test_teacher_that_listens_changes_its_teacher_where_it_should(lessons, row):
    line = line_of(lessons("teacher_that_listens")[0], "teacher before", row, 22)
    student, before, after = (float(text.split()[-1]) for text in line.split("±")[:3])
    # Chance is 10; four epochs give 70 and more.
    assert student > 40
    assert (before == after) == (row in ("KD", "exam for the student"))


def test_teacher_that_listens_restores_to_the_byte(lessons):
    # It compares after every run, and would have failed.
    printed, _ = lessons("teacher_that_listens")
    assert "the teacher was what it had been, byte for byte" in printed


@pytest.mark.parametrize("row", ROWS["temperature_policy"])
def test_temperature_policy_has_every_row(lessons, row):
    line = line_of(lessons("temperature_policy")[0], "accuracy %", row, 17)
    # Chance is 10; four epochs give 80 and more.
    assert float(line.split()[0]) > 50


def test_temperature_policy_takes_lessons(lessons):
    printed, _ = lessons("temperature_policy")
    # Four epochs of 25 steps, and a lesson for each epoch.
    assert int(printed.partition("The policy took ")[2].split()[0]) == 4
