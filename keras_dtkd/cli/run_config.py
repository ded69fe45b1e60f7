"""The settings that identify a run, and its plan."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path

from keras_dtkd import recipes
from keras_dtkd.cli import data, run_dir
from keras_dtkd.core.model_pairs import match_pair
from keras_dtkd.core.user_code import (
    compute_digest,
    is_reference,
    load_reference,
    to_file_name,
)
from keras_dtkd.models.registry import match_name

# Settings on which the images and the teacher's outputs do not depend.
NOT_PRECOMPUTED = (
    *("student", "method", "backend", "seed", "epochs"),
    *("learning_rate", "warmup", "deterministic", "torch_compile"),
)


@dataclasses.dataclass(frozen=True)
class RunPlan:
    """A run before its start. Runs with equal settings are the same run."""

    settings: dict
    recipe: recipes.Recipe
    folder: Path
    teacher_file: Path | None
    # `None` if the teacher runs in each step.
    teacher_outputs_dir: Path | None
    data_dir: Path | None
    # A digest of each file of the user's own: another content is another run.
    code: dict

    def to_dict(self):
        """The plan for run.json."""
        paths = {"teacher_weights": self.teacher_file, "data_dir": self.data_dir}
        return {
            "settings": self.settings,
            "recipe": self.recipe.to_dict(),
            "paths": {name: path and str(path) for name, path in paths.items()},
            **({"code": self.code} if self.code else {}),
        }

    def diff(self, saved):
        """Where the content of a run.json differs: `(name, saved, planned)`, a list."""
        old, new = _identity(saved), _identity(self.to_dict())
        names = {**old, **new}
        return [(n, old.get(n), new.get(n)) for n in names if old.get(n) != new.get(n)]

    def has_same_teacher(self, saved):
        """Whether a run.json is of this teacher and of these images."""
        teacher, code = self.settings["teacher"], saved.get("code", {})
        planned = _precomputed_settings(self.settings)
        found = _precomputed_settings(saved["settings"])
        return found == planned and code.get(teacher) == self.code.get(teacher)


def _precomputed_settings(settings):
    return {n: v for n, v in settings.items() if n not in NOT_PRECOMPUTED}


def _identity(run):
    """Settings and recipe of a run, without prose. The settings repeat some fields."""
    settings = run["settings"]
    values = {**settings, **run.get("recipe", {}), **settings, **run.get("code", {})}
    return {name: value for name, value in values.items() if name != "source"}


def plan_run(args, method, backend, seed, images=None):
    """The `RunPlan` of parsed options.

    Reads the file of the teacher's weights, and the names and sizes of the images in a
    folder, unless `images` is their digest.
    """
    student = _match_network(args.student)
    teacher = args.teacher and _match_network(args.teacher)
    recipe = _recipe(args, method, teacher, student)
    uses_teacher = bool(recipe.distillation_losses)
    image_settings = _image_settings(args, images)
    teacher_file = digest = outputs_dir = None
    if uses_teacher:
        teacher_file = _resolve_weights(args, method, teacher, image_settings)
        digest = hashlib.sha256(teacher_file.read_bytes()).hexdigest()
    settings = {
        "data": args.data,
        "teacher": recipe.teacher,
        "teacher_sha256": digest,
        "student": student,
        "method": method,
        "backend": backend,
        "seed": seed,
        "precision": args.precision,
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "warmup": args.warmup if _losses_with_warmup(recipe) else None,
        "validation": args.validation,
        "train_size": args.train_size,
        # The name in published studies.
        "versions": args.augmentations_per_image,
        # A flipped digit is not a digit.
        "augment": not args.no_augment and args.data != "digits",
        "deterministic": args.deterministic,
    }
    # The student alone is trained by Keras itself.
    if args.torch_compile and backend == "torch" and uses_teacher:
        settings["torch_compile"] = True
    settings |= image_settings
    # As it was named, also where that is a symbolic link.
    path = Path(os.path.abspath(args.data.removeprefix(data.FOLDER)))
    is_folder = args.data.startswith(data.FOLDER)
    root = args.output / (f"folder-{path.name}" if is_folder else args.data)
    if args.augmentations_per_image and uses_teacher:
        if recipe.views or recipe.pruning:
            raise ValueError(
                f"--augmentations-per-image: {method} uses another teacher or other "
                "images in each step, so the teacher's outputs cannot be stored. Omit "
                "--augmentations-per-image, or that method."
            )
        shared = _precomputed_settings(settings)
        if is_reference(teacher):
            shared["code"] = compute_digest(teacher)
        key = hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()
        stored = f"{to_file_name(teacher)}-{key[:12]}"
        outputs_dir = root / "teacher_outputs" / stored
    pair = "-".join(to_file_name(n) for n in (teacher, student) if n)
    folder = root / pair / to_file_name(method) / f"{backend}-seed{seed}"
    names = dict.fromkeys((teacher, student, method))
    code = {name: compute_digest(name) for name in names if is_reference(name)}
    paths = teacher_file, outputs_dir, args.data_dir
    return RunPlan(settings, recipe, folder, *paths, code)


def _match_network(name):
    """The name of a network, or of the user's own, whose file must be there."""
    if not is_reference(name):
        return match_name(name)
    load_reference(name)
    return name


def _image_settings(args, images):
    """The settings of images in a folder; no settings of other data."""
    if args.data.startswith(data.FOLDER):
        size = args.image_size or data.IMAGE_SIZE
        images = images or data.compute_folder_digest(args.data)
        return {"image_size": size, "images": images}
    if args.image_size is not None:
        raise ValueError(
            f"--image-size {args.image_size}: the images of {args.data} have a size of "
            "their own. Omit it, or give --data folder:PATH."
        )
    return {}


def _resolve_weights(args, method, name, image_settings):
    """The file of the teacher's weights: the options name it, or a run's folder."""
    path, student = args.teacher_weights, name or "resnet32x4"
    hint = (
        f"Train one with `keras-dtkd train --method ce --student {student} --data "
        f"{args.data}` and give its folder as --teacher-weights; or give a .keras or "
        ".weights.h5 file of that network, or an .npz file of its PyTorch weights."
    )
    if name is None or path is None:
        missing = f"the weights of the teacher {name}" if name else "a --teacher"
        raise ValueError(f"--method {method} needs {missing}. {hint}")
    if path.is_dir():
        settings = (run_dir.read_run(path) or {"settings": {}})["settings"]
        trained = settings.get("student"), settings.get("data")
        if trained != (name, args.data):
            raise ValueError(
                f"--teacher-weights {path}: it holds a {trained[0]} for {trained[1]}, "
                f"but the teacher is a {name} for {args.data}."
            )
        saved = {setting: settings.get(setting) for setting in image_settings}
        if saved != image_settings:
            raise ValueError(
                f"--teacher-weights {path}: it was trained with other images of "
                f"{args.data}: {saved}, now {image_settings}. Give the same "
                "--image-size and folder; or, to use it all the same, "
                f"{path / run_dir.STUDENT_FILE}."
            )
        path = path / run_dir.STUDENT_FILE
    if not path.is_file():
        raise FileNotFoundError(f"--teacher-weights {path}: no such file. {hint}")
    if not path.name.endswith((".keras", ".weights.h5", ".npz")):
        raise ValueError(
            f"--teacher-weights {path}: give a .keras, .weights.h5, .npz file, or the "
            "folder of a run."
        )
    return path


def _recipe(args, method, teacher, student):
    if teacher and match_pair(teacher, student):
        recipe = recipes.get(method, teacher, student, args.data)
    else:
        # The papers have constants for their pairs only.
        recipe = recipes.get(method, student=student, data=args.data)
        if recipe.distillation_losses:
            recipe = dataclasses.replace(recipe, teacher=teacher)
    if args.epochs:
        recipe = recipe.scaled_to(args.epochs)
    if args.warmup is not None:
        for arguments in _losses_with_warmup(recipe):
            arguments["warmup_epochs"] = args.warmup
    changes = {"batch_size": args.batch_size, "learning_rate": args.learning_rate}
    return dataclasses.replace(recipe, **{n: v for n, v in changes.items() if v})


def _losses_with_warmup(recipe):
    """The arguments of each loss that has a warm-up."""
    arguments = [loss["arguments"] for loss in recipe.distillation_losses.values()]
    return [values for values in arguments if "warmup_epochs" in values]
