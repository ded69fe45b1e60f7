"""`evaluate` and `export` of trained students."""

import json
import shutil

import keras
import numpy as np
import pytest

from keras_dtkd import datasets
from keras_dtkd.cli import data, export, main
from keras_dtkd.cli.evaluate import evaluate_all
from tests.cli.conftest import BACKEND

pytest.importorskip("rich")


def evaluate(capsys, *argv):
    assert main(["evaluate", *map(str, argv), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_metrics_on_the_test_images_equal_numpy(distilled, capsys):
    _, (x, y) = datasets.load_arrays("digits")
    metrics = evaluate(capsys, distilled.folder)
    model = keras.saving.load_model(distilled.folder / "student.keras", compile=False)
    z = np.asarray(model.predict(x / np.float32(255), verbose=0), "float64")
    log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
    top_5 = np.argsort(-z, -1)[:, :5]
    confidence, correct = np.exp(log_p.max(-1)), z.argmax(-1) == y
    bins = np.ceil(confidence * 15)
    error = sum(
        abs((correct[bins == b] - confidence[bins == b]).sum()) for b in set(bins)
    ) / len(y)
    assert metrics["images"] == 500 and metrics["on"] == "test"
    assert metrics["accuracy"] == pytest.approx(correct.mean(), abs=0.003)
    assert metrics["cross_entropy"] == pytest.approx(
        -log_p[np.arange(len(y)), y].mean(), rel=1e-3
    )
    expected = (top_5 == y[:, None]).any(-1).mean()
    assert metrics["top_5_accuracy"] == pytest.approx(expected, abs=0.005)
    assert metrics["calibration_error"] == pytest.approx(error, abs=0.01)


def test_top_5_accuracy_needs_more_than_5_classes():
    for num_classes in (2, 5, 6):
        inputs = keras.Input((4, 4, 1))
        outputs = keras.layers.Dense(num_classes)(keras.layers.Flatten()(inputs))
        split = np.zeros((8, 4, 4, 1), "uint8"), np.arange(8) % num_classes
        images = data.Images("digits", split, None, split, num_classes)
        values = evaluate_all(keras.Model(inputs, outputs), images, split)
        assert ("top_5_accuracy" in values) == (num_classes > 5)


def test_validation_and_train_images_are_those_of_the_run(distilled, capsys):
    run = json.loads((distilled.folder / "run.json").read_text())
    best = evaluate(capsys, distilled.folder, "--epoch", "best")
    assert best["accuracy"] == run["result"]["best"]["accuracy"]
    options = ("--epoch", "best", "--on", "validation")
    validation = evaluate(capsys, distilled.folder, *options)
    assert validation["images"] == 130
    assert validation["accuracy"] == pytest.approx(max(run["val_accuracy"]))
    assert evaluate(capsys, distilled.folder, "--on", "train")["images"] == 96


def test_file_needs_the_data_option(teacher, capsys, user_error):
    file = teacher / "student.keras"
    assert "--data" in user_error(["evaluate", file])
    expected = evaluate(capsys, teacher)
    assert evaluate(capsys, file, "--data", "digits") == expected


def test_best_epoch_of_a_file_is_a_user_error(teacher, user_error):
    file = teacher / "student.keras"
    for argv in (["evaluate", file, "--data", "digits"], ["export", file]):
        error = user_error([*argv, "--epoch", "best"])
        assert f"--epoch best needs a run, and {file} is a file" in error


def test_unwritable_target_is_a_user_error(teacher, tmp_path, user_error):
    (tmp_path / "file").write_text("")
    target = tmp_path / "file" / "student.keras"
    error = user_error(["export", teacher, "--to", target])
    assert f"{target} cannot be written" in error and "--format" not in error


@pytest.mark.parametrize("is_inferred_from_layers", [True, False])
def test_softmax_outputs_are_converted_to_logits(
    is_inferred_from_layers, teacher, tmp_path, capsys
):
    student = keras.saving.load_model(teacher / "student.keras", compile=False)
    outputs = keras.layers.Softmax()(student.output)
    if not is_inferred_from_layers:
        outputs = keras.layers.Reshape((10,))(outputs)
    keras.Model(student.input, outputs).save(tmp_path / "student.keras")
    metrics = evaluate(capsys, tmp_path / "student.keras", "--data", "digits")
    expected = evaluate(capsys, teacher)
    del metrics["file"], expected["file"]
    assert metrics == pytest.approx(expected, abs=1e-4)


def test_sigmoid_outputs_are_a_user_error(teacher, tmp_path, user_error):
    student = keras.saving.load_model(teacher / "student.keras", compile=False)
    outputs = keras.layers.Activation("sigmoid")(student.output)
    keras.Model(student.input, outputs).save(tmp_path / "student.keras")
    error = user_error(["evaluate", tmp_path / "student.keras", "--data", "digits"])
    assert "ends with a sigmoid" in error


def test_a_damaged_file_of_a_network_of_ours_asks_for_no_code(
    teacher, tmp_path, user_error
):
    shutil.copytree(teacher, tmp_path / "run")
    path = tmp_path / "run" / "student.keras"
    path.write_bytes(path.read_bytes()[:1000])
    error = user_error(["evaluate", path.parent])
    assert "cannot be loaded" in error and "--student" not in error


def test_data_dir_is_that_of_the_run_if_it_exists(
    teacher, tmp_path, capsys, monkeypatch
):
    run = json.loads((teacher / "run.json").read_text())
    path, data_dir = tmp_path / "run", tmp_path / "data"
    shutil.copytree(teacher, path)
    run["paths"]["data_dir"] = str(data_dir)
    (path / "run.json").write_text(json.dumps(run))
    used, load = [], data.load

    def record(name, data_dir, *options):
        used.append(data_dir)
        return load(name, None, *options)

    monkeypatch.setattr(data, "load", record)
    evaluate(capsys, path)
    data_dir.mkdir()
    evaluate(capsys, path)
    evaluate(capsys, path, "--data-dir", tmp_path)
    assert used == [None, data_dir, tmp_path]


def test_paths_without_a_student_are_user_errors(teacher, tmp_path, user_error):
    assert "neither the folder of a run" in user_error(["evaluate", tmp_path])
    error = user_error(["evaluate", teacher, "--epoch", "best"])
    assert "trained without --validation images, and has no best student" in error
    assert "without --validation" in user_error(
        ["evaluate", teacher, "--on", "validation"]
    )


@pytest.mark.parametrize("epoch", ["last", "best"])
def test_missing_student_file_is_named(epoch, distilled, tmp_path, user_error):
    """Published studies consist of run.json files only."""
    shutil.copy(distilled.folder / "run.json", tmp_path)
    name = {"last": "student", "best": "best"}[epoch]
    error = user_error(["evaluate", tmp_path, "--epoch", epoch])
    assert f"{name}.keras is missing" in error


def run_export(distilled, path, format, capsys):
    argv = ["export", distilled.folder, "--format", format, "--to", path]
    assert main(list(map(str, argv))) == 0
    return capsys.readouterr().out


def test_keras_export_is_the_same_network(distilled, tmp_path, capsys):
    """And loads without this package."""
    path = tmp_path / "student.keras"
    assert "the same network" in run_export(distilled, path, "keras", capsys)
    config = keras.saving.load_model(path).to_json()
    assert "keras_dtkd" not in config and "TorchSGD" not in config


@pytest.mark.skipif(
    BACKEND == "torch", reason="Keras exports no SavedModel of a functional model"
)
def test_saved_model_export_is_the_same_network(distilled, tmp_path, capsys):
    path = tmp_path / "saved"
    assert "the same network" in run_export(distilled, path, "tf_saved_model", capsys)


def save_network(path, dtype):
    layers = [keras.Input((8, 8, 1)), keras.layers.Flatten(dtype=dtype)]
    keras.Sequential([*layers, keras.layers.Dense(10, dtype=dtype)]).save(path)


@pytest.mark.skipif(
    BACKEND == "torch", reason="Keras exports no SavedModel of a functional model"
)
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_saved_model_of_mixed_precision_is_the_same_network(
    precision, tmp_path, capsys
):
    save_network(tmp_path / "student.keras", f"mixed_{precision}")
    argv = ["export", str(tmp_path / "student.keras"), "--format", "tf_saved_model"]
    assert main(argv) == 0
    assert ": the same network" in capsys.readouterr().out


@pytest.mark.parametrize(
    "dtype, error, code",
    [
        ("float32", 2e-3, 1),
        ("mixed_float16", 2e-3, 0),
        ("mixed_float16", 2e-2, 1),
        ("mixed_bfloat16", 2e-2, 0),
        ("mixed_bfloat16", 0.1, 1),
    ],
)
def test_tolerance_is_that_of_the_layers_precision(
    dtype, error, code, tmp_path, capsys, monkeypatch
):
    file = tmp_path / "student.keras"
    save_network(file, dtype)

    def read(path, x):
        network = keras.saving.load_model(path)
        return (1 + error) * np.asarray(network.predict(x, verbose=0), "float32")

    monkeypatch.setitem(export.FORMATS, "keras", (".keras", "keras", read))
    assert main(["export", str(file), "--to", str(tmp_path / "x.keras")]) == code
    assert ("NOT the same" in capsys.readouterr().out) == bool(code)


def test_export_with_other_outputs_gives_exit_code_1(
    distilled, tmp_path, capsys, monkeypatch
):
    student = keras.saving.load_model(distilled.folder / "student.keras")

    def read(path, x):
        return 1.01 * np.asarray(student.predict(x, verbose=0))

    monkeypatch.setitem(export.FORMATS, "keras", (".keras", "keras", read))
    argv = ["export", str(distilled.folder), "--to", str(tmp_path / "x.keras")]
    assert main(argv) == 1
    assert "NOT the same network" in capsys.readouterr().out


def test_unreadable_export_gives_exit_code_1(distilled, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(keras.Model, "save", lambda _, path: path.write_text("?"))
    path = tmp_path / "x.keras"
    assert main(["export", str(distilled.folder), "--to", str(path)]) == 1
    assert f"{path}: written, but keras cannot read it" in capsys.readouterr().out


def test_unsupported_format_is_a_user_error(
    distilled, tmp_path, user_error, monkeypatch
):
    def fail(self, path, **kwargs):
        open(path, "w").close()
        raise RuntimeError("no such converter\nand more")

    monkeypatch.setattr(keras.Model, "export", fail)
    path = tmp_path / "student.onnx"
    error = user_error(["export", distilled.folder, "--format", "onnx", "--to", path])
    assert f"on {BACKEND} cannot write this network as onnx" in error
    assert "RuntimeError: no such converter)" in error
    assert not path.exists()


def test_existing_files_and_wrong_suffixes_are_user_errors(
    distilled, tmp_path, user_error
):
    path = tmp_path / "student.keras"
    path.write_text("existing")
    assert "already exists" in user_error(["export", distilled.folder, "--to", path])
    assert path.read_text() == "existing"
    argv = ["export", distilled.folder, "--to", tmp_path / "student.onnx"]
    assert "ends with .keras" in user_error(argv)
