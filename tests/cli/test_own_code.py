"""Methods, networks and images of the user's own, by the command and from Python."""

import argparse
import json
import sys

import keras
import numpy as np
import pytest

from keras_dtkd import recipes
from keras_dtkd.cli import main, options, run_config
from keras_dtkd.cli.data import compute_folder_digest, load
from keras_dtkd.core import user_code
from keras_dtkd.core.user_code import load_reference
from tests.cli.conftest import BACKEND, TINY
from tests.cli.fake_runs import make_run

CODE = """
import keras
from keras import ops
from keras_dtkd.losses import DistillationLoss

NUMBER = 3


@keras.saving.register_keras_serializable()
class Squared(DistillationLoss):
    def call(self, student_logits, teacher_logits, labels=None):
        return ops.mean((student_logits - teacher_logits) ** 2, axis=-1)


def build(input_shape, num_classes):
    layers = [keras.Input(input_shape), keras.layers.Flatten()]
    return keras.Sequential([*layers, keras.layers.Dense(num_classes)])


def wrong_width(input_shape, num_classes):
    return build(input_shape, num_classes + 1)


@keras.saving.register_keras_serializable()
class Own(keras.Model):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.flatten, self.dense = keras.layers.Flatten(), keras.layers.Dense(units)

    def call(self, x):
        return self.dense(self.flatten(x))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


class Unregistered(Own):
    pass


def build_own(input_shape, num_classes, own=Own):
    network = own(num_classes)
    network(ops.zeros((1, *input_shape)))
    return network


def build_unregistered(input_shape, num_classes):
    return build_own(input_shape, num_classes, Unregistered)


def with_sigmoid(input_shape, num_classes):
    network = build(input_shape, num_classes)
    network.add(keras.layers.Activation("sigmoid"))
    return network


def nothing(input_shape, num_classes):
    return None
"""


def test_other_images_in_a_folder_are_other_settings(tmp_path):
    image = tmp_path / "images" / "cats" / "1.png"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"12345")
    digests = [compute_folder_digest(f"folder:{tmp_path}/images")]
    assert compute_folder_digest(f"folder:{tmp_path / 'images'}/") == digests[0]
    for content, name in ((b"123456", "1.png"), (b"123456", "2.png")):
        image.unlink()
        image = image.with_name(name)
        image.write_bytes(content)
        digests.append(compute_folder_digest(f"folder:{tmp_path}/images"))
    assert len(set(digests)) == 3


@pytest.fixture
def code(tmp_path):
    """In a folder whose name has what Markdown, `rich` and a shell have a use for."""
    path = tmp_path / "o'brien & [" / "co] #1!" / "my.py"
    path.parent.mkdir(parents=True)
    path.write_text(CODE)
    return path


def argv(code, teacher, output, method="Squared", student="build"):
    argv = ["train", *TINY, "--epochs", "1", "--verbose", "0", "--output", str(output)]
    argv += ["--teacher", "resnet8", "--teacher-weights", str(teacher)]
    return [*argv, "--method", f"{code}:{method}", "--student", f"{code}:{student}"]


def read(output):
    (path,) = output.rglob("my-Squared/*/run.json")
    return path, json.loads(path.read_text())


def test_a_loss_and_a_network_in_a_file(code, teacher, tmp_path, capsys, user_error):
    output = tmp_path / "runs"
    assert main(argv(code, teacher, output)) == 0
    path, run = read(output)
    assert run["settings"]["student"] == f"{code}:build"
    assert run["recipe"]["distillation_losses"]["squared"]["class"] == f"{code}:Squared"
    assert 0 <= run["teacher_accuracy"] <= 1
    student = keras.saving.load_model(path.parent / "student.keras")
    assert student.output_shape == (None, 10)
    capsys.readouterr()
    assert main(argv(code, teacher, output)) == 0
    assert "is finished" in capsys.readouterr().out
    # Another content is another method.
    code.write_text(CODE + "\n# changed\n")
    assert "other settings" in user_error(argv(code, teacher, output))
    assert main(["report", str(output)]) == 0
    assert "teacher resnet8: " in capsys.readouterr().out
    assert main(["evaluate", str(path.parent)]) == 0


def test_code_that_failed_in_the_first_epoch_can_be_mended(code, teacher, tmp_path):
    output = tmp_path / "runs"
    error = '        raise RuntimeError("mistake")\n        return'
    code.write_text(CODE.replace("        return", error, 1))
    with pytest.raises(RuntimeError, match="mistake"):
        main(argv(code, teacher, output))
    assert read(output)[1]["epochs_done"] == 0
    code.write_text(CODE)
    assert main(argv(code, teacher, output)) == 0
    assert read(output)[1]["status"] == "finished"


TEACHER = """
import keras

def build(input_shape, num_classes):
    x = keras.Input(input_shape)
    logits = keras.layers.Dense(num_classes)(keras.layers.Flatten()(x))
    return keras.Model(x, logits * FACTOR)
"""


def test_outputs_of_a_teacher_with_other_code_are_computed_again(tmp_path):
    path, weights, means = tmp_path / "teacher.py", tmp_path / "teacher.keras", []
    argv = ["train", *TINY, "--epochs", "1", "--verbose", "0", "--student", "resnet8"]
    argv += ["--augmentations-per-image", "1", "--output", str(tmp_path / "runs")]
    argv += ["--teacher", f"{path}:build", "--teacher-weights", str(weights)]
    for method, factor in [("kd", "1.0"), ("dtkd", "10.0"), ("dist", "10.0")]:
        path.write_text(TEACHER.replace("FACTOR", factor))
        if not weights.exists():
            load_reference(f"{path}:build")((8, 8, 1), 10).save(weights)
        assert main([*argv, "--method", method]) == 0
        stored = tmp_path.rglob("teacher_outputs/*/outputs.npy")
        means.append({np.abs(np.load(file)).mean() for file in stored})
    assert means[0] < means[1] == means[2]
    assert max(means[1]) / min(means[1]) == pytest.approx(10, rel=1e-5)


def test_a_method_in_a_file_is_compared(code, teacher, tmp_path, in_process, capsys):
    argv = ["compare", *TINY, "--epochs", "1", "--seeds", "1"]
    argv += ["--teacher", "resnet8", "--teacher-weights", str(teacher)]
    argv += ["--methods", f"{code}:Squared", "--student", f"{code}:build"]
    assert main([*argv, "--output", str(tmp_path / "runs")]) == 0
    title = f"1/1 {code}:Squared {BACKEND} seed 0"
    assert f"{title}: test accuracy" in capsys.readouterr().out


def test_a_network_of_an_own_class_is_evaluated_and_exported_later(
    code, teacher, tmp_path, user_error
):
    output = tmp_path / "runs"
    command = argv(code, teacher, output, student="build_own")
    assert main([*command, "--validation", "0.2"]) == 0
    path, _ = read(output)

    def forget():
        """What a process does not know that has not trained it."""
        keras.saving.get_custom_objects().pop("Custom>Own")
        sys.modules.pop(load_reference(f"{code}:Own").__module__)

    for epoch in ("last", "best"):
        forget()
        arguments = [str(path.parent), "--epoch", epoch]
        # A run.json may come from anywhere: its code is not run.
        message = user_error(["evaluate", *arguments])
        assert "cannot be loaded" in message and "Give --student" in message
        assert "Could not locate class 'Own'" in message and "{" not in message
        arguments += ["--student", f"{code}:build_own"]
        assert main(["evaluate", *arguments, "--json"]) == 0
        assert main(["export", *arguments]) == 0


WRONG = {
    "no file": ("missing.py:Squared", "build", "there is no file"),
    "no name": ("my.py:Missing", "build", "has no class or function 'Missing'"),
    "no function": ("my.py:NUMBER", "build", "It has: Squared, build"),
    "fails": ("broken.py:Squared", "build", "ZeroDivisionError"),
    "no model": ("my.py:Squared", "nothing", "must return a `keras.Model`"),
    "wrong width": ("my.py:Squared", "wrong_width", "not one number for each class"),
    "sigmoid": ("my.py:Squared", "with_sigmoid", "the student ends with a sigmoid"),
    "no file of its class": (
        *("my.py:Squared", "build_unregistered"),
        "could not be loaded from the file of the trained student",
    ),
    "no method": ("nonsense", "build", "nonsense is none of ce, kd"),
}


@pytest.mark.invariant(number=10)
@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_in_a_file_is_one_sentence(
    case, code, teacher, tmp_path, user_error
):
    method, student, message = WRONG[case]
    (code.parent / "broken.py").write_text("1 / 0")
    command = argv(code, teacher, tmp_path / "runs", student=student)
    place = command.index("--method") + 1
    command[place] = str(code.parent / method) if ":" in method else method
    assert message in user_error(command)


@pytest.fixture
def folder(tmp_path):
    """Images of two classes, in folders."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 6)):
        for label, name in enumerate(("dark", "light")):
            path = tmp_path / "flowers" / split / name
            path.mkdir(parents=True)
            for i in range(count):
                image = rng.integers(0, 100, (10, 10, 3)) + 150 * label
                keras.utils.save_img(path / f"{i}.png", image, scale=False)
    return tmp_path / "flowers"


def test_a_class_that_is_not_trained_on_is_a_class(folder):
    (folder / "train" / "light").rename(folder / "train" / "medium")
    (folder / "val" / "light").rename(folder / "val" / "medium")
    for split, files in (("train", 1), ("val", 6)):
        for i in range(files):
            source = folder / split / "dark" / f"{i}.png"
            (folder / split / "rare").mkdir(exist_ok=True)
            source.rename(folder / split / "rare" / f"{i}.png")
    images = load(f"folder:{folder}", train_size=2, image_size=8)
    assert images.num_classes == 3 and images.train[1].max() < 2


def test_images_in_folders_and_the_same_from_python(code, folder, tmp_path, user_error):
    table = recipes.compare(
        ["ce"],
        f"{code}:build",
        data=f"folder:{folder}",
        image_size=8,
        seeds=2,
        epochs=4,
        batch_size=4,
        no_augment=True,
        output=tmp_path / "runs",
    )
    (row,) = table["rows"]
    assert (
        row["method"] == "ce" and row["seeds"] == [0, 1] and row["backend"] == BACKEND
    )
    assert row["last"]["mean"] > 0.5 and len(row["last"]["values"]) == 2
    assert (tmp_path / "runs" / "folder-flowers" / "my-build").is_dir()
    assert "report.json" in {
        p.name for p in (tmp_path / "runs/folder-flowers/my-build").iterdir()
    }
    with pytest.raises(ValueError, match="does not exist"):
        recipes.compare("ce", f"{code}:build", data="folder:/nowhere", output=tmp_path)
    with pytest.raises(ValueError, match="unknown network 'resnet9'"):
        recipes.compare("ce", "resnet9", data="digits", output=tmp_path)
    with pytest.raises(ValueError, match="--no-such"):
        recipes.compare("ce", "resnet8", no_such=1, output=tmp_path)


def folder_argv(path, *options):
    return ["train", "--data", f"folder:{path}", "--student", "resnet8", *options]


@pytest.mark.parametrize(
    "text", ["folder:flowers", "folder:flowers/", "folder:../flowers"]
)
def test_the_runs_of_a_relative_folder_have_its_name(folder, text, monkeypatch):
    monkeypatch.chdir(folder if text.startswith("folder:..") else folder.parent)
    parser = argparse.ArgumentParser()
    options.add_arguments(parser)
    args = parser.parse_args(["--data", text, "--student", "resnet8"])
    plan = run_config.plan_run(args, "ce", BACKEND, seed=0)
    assert plan.folder.parts[:2] == ("runs", "folder-flowers")


def test_a_teacher_of_images_of_another_size_or_content_is_refused(
    folder, tmp_path, user_error
):
    data, run = f"folder:{folder}", tmp_path / "teacher"
    images = {"image_size": 32, "images": compute_folder_digest(data)}
    run.mkdir()
    (run / "student.keras").write_bytes(b"not read")
    argv = folder_argv(folder, "--teacher", "resnet14", "--teacher-weights", run)
    argv += ["--output", tmp_path / "runs", "--image-size"]
    for saved, size in ((images, 16), ({**images, "images": "of others"}, 32)):
        settings = {"student": "resnet14", "data": data, **saved}
        (run / "run.json").write_text(json.dumps(make_run("ce", **settings)))
        error = user_error([*argv, size])
        assert f"{run}: it was trained with other images of {data}" in error
        assert f"{saved}, now {images | {'image_size': size}}" in error
    assert not (tmp_path / "runs").exists()


def test_references_differ_from_names():
    assert user_code.is_reference("my.py:Squared")
    assert user_code.is_reference("a/b c.py:_build")
    for text in ("kd", "my.py", "my.py:", "my:Squared", "my.py:1", ".py:x:y", None):
        assert not user_code.is_reference(text)
    assert user_code.to_file_name("a/my.py:Squared") == "my-Squared"
    assert user_code.to_file_name("kd") == "kd"


def test_a_recipe_has_the_users_loss(code):
    recipe = recipes.get(f"{code}:Squared", "resnet32x4", "resnet8x4")
    (loss,) = recipe.build_losses().values()
    assert type(loss).__name__ == "Squared" and recipe.task_weight == 1.0
    assert recipes.Recipe.from_dict(recipe.to_dict()) == recipe
    with pytest.raises(ValueError, match="or name a loss of your own"):
        recipes.get("nonsense")
