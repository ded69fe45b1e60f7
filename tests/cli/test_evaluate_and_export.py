"""A trained student is measured, and written for others."""

import json
import shutil

import keras
import numpy as np
import pytest

from keras_dtkd import datasets
from keras_dtkd.cli import data, export, main
from tests.cli.conftest import BACKEND

pytest.importorskip("rich")


def evaluated(capsys, *words):
    assert main(["evaluate", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_student_is_measured_on_the_test_images(distilled, capsys):
    _, (x, y) = datasets.load_arrays("digits")
    found = evaluated(capsys, distilled.folder)
    model = keras.saving.load_model(distilled.folder / "student.keras", compile=False)
    z = np.asarray(model.predict(x / np.float32(255), verbose=0), "float64")
    log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
    top = np.argsort(-z, -1)[:, :5]
    rows = np.arange(len(y))
    confidence, right = np.exp(log_p.max(-1)), z.argmax(-1) == y
    bins = np.ceil(confidence * 15)
    error = sum(
        abs((right[bins == b] - confidence[bins == b]).sum()) for b in set(bins)
    ) / len(y)
    assert found["images"] == 500 and found["on"] == "test"
    assert found["accuracy"] == pytest.approx(right.mean(), abs=0.003)
    assert found["cross_entropy"] == pytest.approx(-log_p[rows, y].mean(), rel=1e-3)
    expected = (top == y[:, None]).any(-1).mean()
    assert found["top_5_accuracy"] == pytest.approx(expected, abs=0.005)
    assert found["calibration_error"] == pytest.approx(error, abs=0.01)


def test_a_run_knows_its_parts_and_its_best_student(distilled, capsys):
    run = json.loads((distilled.folder / "run.json").read_text())
    best = evaluated(capsys, distilled.folder, "--epoch", "best")
    assert best["accuracy"] == run["result"]["best"]["accuracy"]
    on = ("--epoch", "best", "--on", "validation")
    validation = evaluated(capsys, distilled.folder, *on)
    assert validation["images"] == 130
    assert validation["accuracy"] == pytest.approx(max(run["val_accuracy"]))
    assert evaluated(capsys, distilled.folder, "--on", "train")["images"] == 96


def test_a_file_alone_needs_the_name_of_the_data(teacher, capsys, refused):
    file = teacher / "student.keras"
    assert "--data" in refused(["evaluate", file])
    whole = evaluated(capsys, teacher)
    assert evaluated(capsys, file, "--data", "digits") == whole


def test_a_file_alone_has_no_best_epoch(teacher, refused):
    file = teacher / "student.keras"
    for words in (["evaluate", file, "--data", "digits"], ["export", file]):
        error = refused([*words, "--epoch", "best"])
        assert f"--epoch best is for a run, and {file} is none" in error


def test_where_nothing_can_be_written_the_folder_is_to_blame(
    teacher, tmp_path, refused
):
    (tmp_path / "file").write_text("")
    target = tmp_path / "file" / "student.keras"
    error = refused(["export", teacher, "--to", target])
    assert f"{target} cannot be written" in error and "--format" not in error


@pytest.mark.parametrize("known", [True, False])
def test_a_softmax_is_measured_as_the_logits_before_it(
    known, teacher, tmp_path, capsys
):
    """Whether its layers tell or its outputs alone."""
    student = keras.saving.load_model(teacher / "student.keras", compile=False)
    outputs = keras.layers.Softmax()(student.output)
    if not known:
        outputs = keras.layers.Reshape((10,))(outputs)
    keras.Model(student.input, outputs).save(tmp_path / "student.keras")
    found = evaluated(capsys, tmp_path / "student.keras", "--data", "digits")
    expected = evaluated(capsys, teacher)
    del found["file"], expected["file"]
    assert found == pytest.approx(expected, abs=1e-4)


def test_a_sigmoid_is_refused(teacher, tmp_path, refused):
    student = keras.saving.load_model(teacher / "student.keras", compile=False)
    outputs = keras.layers.Activation("sigmoid")(student.output)
    keras.Model(student.input, outputs).save(tmp_path / "student.keras")
    error = refused(["evaluate", tmp_path / "student.keras", "--data", "digits"])
    assert "ends with a sigmoid" in error


def test_a_runs_data_is_where_it_was(teacher, tmp_path, capsys, monkeypatch):
    """If it is there still, and unless told otherwise."""
    run = json.loads((teacher / "run.json").read_text())
    path, there = tmp_path / "run", tmp_path / "there"
    shutil.copytree(teacher, path)
    run["paths"]["data_dir"] = str(there)
    (path / "run.json").write_text(json.dumps(run))
    asked, read = [], data.read

    def reading(data, data_dir, **parts):
        asked.append(data_dir)
        return read(data, **parts)

    monkeypatch.setattr(data, "read", reading)
    evaluated(capsys, path)
    there.mkdir()
    evaluated(capsys, path)
    evaluated(capsys, path, "--data-dir", tmp_path)
    assert asked == [None, there, tmp_path]


def test_what_is_no_student_is_refused(teacher, tmp_path, refused):
    assert "neither the folder of a run" in refused(["evaluate", tmp_path])
    assert "last student only" in refused(["evaluate", teacher, "--epoch", "best"])
    assert "without --validation" in refused(
        ["evaluate", teacher, "--on", "validation"]
    )


@pytest.mark.parametrize("epoch", ["last", "best"])
def test_a_finished_run_whose_student_lies_elsewhere_is_told(
    epoch, distilled, tmp_path, refused
):
    """As of a study of which the run.json files alone are kept."""
    shutil.copy(distilled.folder / "run.json", tmp_path)
    name = {"last": "student", "best": "best"}[epoch]
    error = refused(["evaluate", tmp_path, "--epoch", epoch])
    assert f"{name}.keras is not there" in error and "--validation" not in error


def exported(distilled, path, format, capsys):
    words = ["export", distilled.folder, "--format", format, "--to", path]
    assert main(list(map(str, words))) == 0
    return capsys.readouterr().out


def test_a_keras_file_is_the_same_network(distilled, tmp_path, capsys):
    """And needs nothing of this package."""
    path = tmp_path / "student.keras"
    assert "the same network" in exported(distilled, path, "keras", capsys)
    config = keras.saving.load_model(path).to_json()
    assert "keras_dtkd" not in config and "CoupledSGD" not in config


@pytest.mark.skipif(
    BACKEND == "torch", reason="Keras writes no SavedModel of a functional model there"
)
def test_a_saved_model_is_the_same_network(distilled, tmp_path, capsys):
    path = tmp_path / "saved"
    assert "the same network" in exported(distilled, path, "tf_saved_model", capsys)


def test_an_artifact_of_other_numbers_is_told(distilled, tmp_path, capsys, monkeypatch):
    student = keras.saving.load_model(distilled.folder / "student.keras")

    def almost(path, format, x):
        return 1.01 * np.asarray(student.predict(x, verbose=0))

    monkeypatch.setattr(export, "_read", almost)
    words = ["export", str(distilled.folder), "--to", str(tmp_path / "x.keras")]
    assert main(words) == 1
    assert "NOT the same network" in capsys.readouterr().out


def test_an_artifact_that_nobody_can_read_is_no_success(
    distilled, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(keras.Model, "save", lambda _, path: path.write_text("?"))
    path = tmp_path / "x.keras"
    assert main(["export", str(distilled.folder), "--to", str(path)]) == 1
    assert f"{path}: written, and keras cannot read it" in capsys.readouterr().out


def test_a_format_that_keras_cannot_write_here_is_refused(
    distilled, tmp_path, refused, monkeypatch
):
    def cannot(self, path, **kwargs):
        open(path, "w").close()
        raise RuntimeError("no such converter\nand more")

    monkeypatch.setattr(keras.Model, "export", cannot)
    path = tmp_path / "student.onnx"
    error = refused(["export", distilled.folder, "--format", "onnx", "--to", path])
    assert f"on {BACKEND} cannot write this network as onnx" in error
    assert "RuntimeError: no such converter)" in error
    assert not path.exists()


def test_nothing_is_overwritten_and_names_fit(distilled, tmp_path, refused):
    path = tmp_path / "student.keras"
    path.write_text("mine")
    assert "there already" in refused(["export", distilled.folder, "--to", path])
    assert path.read_text() == "mine"
    other = ["export", distilled.folder, "--to", tmp_path / "student.onnx"]
    assert "ends with .keras" in refused(other)
