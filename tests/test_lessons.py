"""The long examples run and produce their tables and pictures.

Most of a smoke run is compilation of many small networks, which PyTorch does not need.
The pages in docs/ have full runs on all backends.
"""

import pytest

from tests.scripts import EXAMPLES, ROOT, SMOKE_RUN, run_script

STORIES = ROOT.parent / "shared" / "data" / "stories260k"

BCCD = ROOT.parent / "shared" / "data" / "bccd" / "bccd.npz"
TEXT = ROOT.parent / "shared" / "data" / "gsm8k" / "train.jsonl.gz"

ROWS = {
    "features": [
        *("teacher", "student alone", "KD"),
        *("KD + FitNet", "KD + attention", "KD + similarity", "KD + relations"),
        *("KD + FitNet, untrained", "KD + attention, untrained"),
        *("KD + similarity, untrained", "KD + relations, untrained"),
    ],
    "private_student": [
        *("teacher", "KD", "labels left out", "same mean T", "noise alone", "T alone"),
        *("T alone, up to 8", "Swing", "Swing, shared T", "all left out"),
        *("Swing, poor score", "all left out, poor"),
    ],
    "robust_student": [
        "teacher",
        "student alone",
        *("KD", "KDIGA 0.1", "KDIGA 1", "KDIGA 3"),
        *("penalty 0.1", "penalty 1", "penalty 3"),
    ],
    "small_bert": [
        *("student alone", "KD", "KD + hidden states", "KD + attention", "KD + both"),
    ],
    "speculative": [
        *("the teacher", "beginning", "data", "teacher", "on-policy"),
        *("SKD, K = 5", "SKD, K = 25", "SKD, K = 100"),
    ],
    "student_feedback": [
        *("KD", "IKD", "exam for the teacher", "exam for the student"),
    ],
    "temperature_policy": [
        *("student alone", "T = 4", "DTKD's", "policy, learning", "policy, learned"),
        *("dealt at random", "their mean"),
    ],
}


@pytest.fixture(scope="module")
def run_example(tmp_path_factory):
    """A function from an example's name to its printed output and output folder."""
    pytest.importorskip("sklearn", reason="The examples need scikit-learn's digits.")
    pytest.importorskip("matplotlib", reason="The examples draw with matplotlib.")
    finished = {}

    def run_once(name):
        if name not in finished:
            folder = tmp_path_factory.mktemp(name) / "output"
            script = EXAMPLES / f"{name}.py"
            environment = {"KERAS_DTKD_OUT": str(folder), **SMOKE_RUN}
            if name == "speculative":
                pytest.importorskip("keras_hub", reason="It needs KerasHub.")
                if not STORIES.exists():
                    pytest.skip("The files of stories260k are not at hand.")
                environment["KERAS_DTKD_STORIES"] = str(STORIES)
            if name == "small_bert":
                pytest.importorskip("keras_hub", reason="It needs KerasHub.")
                if not TEXT.exists():
                    pytest.skip("The text of GSM8K is not at hand.")
                environment["KERAS_DTKD_TEXT"] = str(TEXT)
            if name == "small_detector":
                for needed in ("keras_hub", "pycocotools"):
                    pytest.importorskip(needed, reason=f"It needs {needed}.")
                if not BCCD.exists():
                    pytest.skip("BCCD is not at hand.")
                environment["KERAS_DTKD_BCCD"] = str(BCCD)
            printed = run_script(script, **environment)
            finished[name] = printed, folder
        return finished[name]

    return run_once


def find_row(printed, header, row, width):
    """The rest of the only line that starts with `row` in the table below `header`."""
    table = printed.partition(header)[2].partition("\n\n")[0].splitlines()
    (line,) = [line for line in table if line[:width].rstrip() == row]
    return line[width:]


@pytest.mark.parametrize("name", ROWS)
def test_a_smoke_run_is_labeled_as_one(run_example, name):
    assert "SMOKE RUN" in run_example(name)[0]


@pytest.mark.parametrize("name", ROWS)
def test_an_example_writes_its_picture_and_no_other_file(run_example, name):
    (picture,) = run_example(name)[1].iterdir()
    assert picture.name == f"{name}.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 20_000


@pytest.mark.parametrize("row", ROWS["features"])
def test_features_has_every_row(run_example, row):
    table = run_example("features")[0].partition("| arm |")[2].splitlines()
    (line,) = [line for line in table if line.startswith(f"| {row} |")]
    assert 0 < float(line.split("|")[2].split(" ± ")[0]) <= 100
    # Of each loss on features the difference from KD, and from its control.
    is_controlled = "+" in row and "untrained" not in row
    assert (line.split("|")[5].strip() != "") == is_controlled


@pytest.mark.parametrize("row", ROWS["small_bert"])
def test_small_bert_has_every_row_from_both_starts(run_example, row):
    printed = run_example("small_bert")[0]
    table = printed.partition("| arm |")[2].splitlines()
    lines = [line for line in table if line.startswith(f"| {row} |")]
    assert [line.split("|")[2].strip() for line in lines] == ["random", "cut"]
    for line in lines:
        assert 0 <= float(line.split("|")[3].split(" ± ")[0]) <= 100


def test_small_bert_states_the_agreement_before_training(run_example):
    printed, _ = run_example("small_bert")
    for start in ("random", "cut"):
        found = printed.partition(f"Agreement before any training, {start}: ")[2]
        assert 0 <= float(found.split(" ± ")[0]) <= 100


@pytest.mark.parametrize("row", ROWS["private_student"])
def test_private_student_has_every_row(run_example, row):
    line = find_row(run_example("private_student")[0], "below KD", row, 20)
    once, often, _, mean, *below, perplexity = line.replace("%", "").split()
    # All digits known are 13.3 bits; chance is a perplexity of 40.
    assert 0 <= min(float(once), float(often)) and float(mean) <= 13.3
    assert len(below) == (row not in ("teacher", "KD"))
    assert 1 < float(perplexity) < 39


@pytest.mark.parametrize("row", ROWS["robust_student"])
def test_robust_student_has_every_row(run_example, row):
    line = find_row(run_example("robust_student")[0], "clean %", row, 14)
    # Chance is 10; a few epochs give 70 and more.
    assert float(line.split()[0]) > 40


def test_robust_student_prints_the_share_of_the_gap_to_the_teacher(run_example):
    printed, _ = run_example("robust_student")
    gains = printed.partition("Minus KD")[2].partition("\n\n")[0]
    header, *rows = gains.splitlines()[1:]
    assert header.endswith("% of the gap to the teacher")
    (line,) = [line for line in rows if line.startswith("KDIGA 1 ")]
    assert line.count(" ± ") == 3


@pytest.mark.parametrize("row", ROWS["speculative"])
def test_speculative_has_every_row(run_example, row):
    table = run_example("speculative")[0].partition("| arm |")[2].splitlines()
    (line,) = [line for line in table if line.startswith(f"| {row} |")]
    nll, divergence, drafts = (
        float(cell.split(" ± ")[0]) for cell in line.split("|")[2:5]
    )
    is_teacher = row == "the teacher"
    assert nll > 0
    assert (divergence == 0) == is_teacher and (drafts == 1) == is_teacher


@pytest.mark.parametrize("row", ROWS["student_feedback"])
def test_student_feedback_changes_only_trained_teachers(run_example, row):
    line = find_row(run_example("student_feedback")[0], "teacher before", row, 22)
    student, before, after = (float(text.split()[-1]) for text in line.split("±")[:3])
    # Chance is 10; four epochs give 70 and more.
    assert student > 40
    assert (before == after) == (row in ("KD", "exam for the student"))


def test_student_feedback_restores_the_teacher_bit_for_bit(run_example):
    # The example compares the weights after every run and raises if they differ.
    printed, _ = run_example("student_feedback")
    assert "Restored teachers equal the initial ones bit for bit." in printed


@pytest.mark.parametrize("row", ROWS["temperature_policy"])
def test_temperature_policy_has_every_row(run_example, row):
    line = find_row(run_example("temperature_policy")[0], "accuracy %", row, 17)
    # Chance is 10; four epochs give 80 and more.
    assert float(line.split()[0]) > 50


def test_temperature_policy_updates_the_policy_once_per_epoch(run_example):
    printed, _ = run_example("temperature_policy")
    # Four epochs of 25 steps.
    assert int(printed.partition("Policy updates: ")[2].split()[0]) == 4


def test_small_llm_distills_and_saves_a_student(run_example):
    pytest.importorskip("keras_hub", reason="The example is on models of KerasHub.")
    printed, folder = run_example("small_llm")
    assert "SMOKE RUN" in printed
    for name in ("before", "after"):
        (line,) = [x for x in printed.splitlines() if x.startswith(f"| {name} ")]
        divergence, acceptance = (float(x) for x in line.split("|")[2:4])
        assert divergence >= 0 and 0 <= acceptance <= 1
    # Two epochs, logged by the rollout and by the losses.
    for name in ("acceptance", "kd", "generated_tokens"):
        (line,) = [x for x in printed.splitlines() if x.startswith(f"{name}: ")]
        assert line.count(",") == 1
    (saved,) = folder.iterdir()
    assert {"config.json", "model.weights.h5"} < {path.name for path in saved.iterdir()}


def test_small_detector_has_every_row_and_both_pictures(run_example):
    printed, folder = run_example("small_detector")
    assert "SMOKE RUN" in printed
    table = printed.partition("| method")[2].splitlines()
    for row in ("teacher", "student alone", "FeatureMSE", "+ AFA + SDA"):
        (line,) = [line for line in table if line.startswith(f"| {row} ")]
        assert 0 <= float(line.split("|")[2].split(" ± ")[0]) <= 100
    for picture in ("small_detector_quick.png", "small_detector_quick_boxes.png"):
        assert (folder / picture).stat().st_size > 10_000


def test_explain_distillation_has_its_tables_and_both_pictures(run_example):
    printed, folder = run_example("explain_distillation")
    assert "SMOKE RUN" in printed and "Soft labels:" in printed
    table = printed.partition("| digits")[2].splitlines()
    for row in ("cross-entropy", "KD"):
        line = next(line for line in table if line.startswith(f"| {row} "))
        accuracy, *_, entropy, _ = (
            part.split(" ± ")[0] for part in line.split("|")[2:]
        )
        assert 0 <= float(accuracy) <= 100 and 0 <= float(entropy) <= 1
    assert "| KD concentrates the attention | digits |" in printed
    for picture in ("tree", "entropy"):
        path = folder / f"explain_distillation_quick_{picture}.png"
        assert path.stat().st_size > 10_000
