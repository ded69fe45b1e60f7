"""The settings that identify a run, and its plan."""

import dataclasses
import hashlib
import json
from pathlib import Path

from keras_dtkd import recipes
from keras_dtkd.cli.data import NO_AUGMENTATION
from keras_dtkd.cli.teacher import resolve_weights
from keras_dtkd.core.model_pairs import match_pair
from keras_dtkd.models.registry import match_name

# Settings on which the images and the teacher's outputs do not depend.
NOT_PRECOMPUTED = (
    *("student", "method", "backend", "seed", "epochs"),
    *("learning_rate", "warmup", "deterministic"),
)


@dataclasses.dataclass(frozen=True)
class RunPlan:
    """A run before its start.

    Attributes:
        settings: Those of run.json. Runs with equal settings are the same run.
        recipe: Its `Recipe`.
        folder: Its folder.
        teacher_file: File of the teacher's weights; `None` without a teacher.
        teacher_outputs_dir: Folder of the stored teacher outputs; `None` if the teacher
            runs in each step.
        data_dir: Folder of the data set, or `None`.
    """

    settings: dict
    recipe: recipes.Recipe
    folder: Path
    teacher_file: Path | None
    teacher_outputs_dir: Path | None
    data_dir: Path | None

    def to_dict(self):
        """The plan for run.json."""
        return {
            "settings": self.settings,
            "recipe": self.recipe.to_dict(),
            "paths": {
                "teacher_weights": self.teacher_file and str(self.teacher_file),
                "data_dir": self.data_dir and str(self.data_dir),
            },
        }

    def diff(self, saved):
        """Where the content of a run.json differs: `(name, saved, planned)`, a list."""
        old, new = _identity(saved), _identity(self.to_dict())
        names = {**old, **new}
        return [(n, old.get(n), new.get(n)) for n in names if old.get(n) != new.get(n)]


def _identity(run):
    """Settings and recipe of a run, without prose. The settings repeat some fields."""
    settings = run["settings"]
    values = {**settings, **run.get("recipe", {}), **settings}
    return {name: value for name, value in values.items() if name != "source"}


def plan_run(args, method, backend, seed):
    """The `RunPlan` of parsed options. Reads only the file of the teacher's weights.

    Raises:
        ValueError: Unknown network, or a missing teacher.
    """
    student = match_name(args.student)
    teacher = args.teacher and match_name(args.teacher)
    recipe = _recipe(args, method, teacher, student)
    uses_teacher = bool(recipe.distillation_losses)
    teacher_file = digest = outputs_dir = None
    if uses_teacher:
        teacher_file = resolve_weights(args, method, teacher)
        digest = hashlib.sha256(teacher_file.read_bytes()).hexdigest()
    settings = {
        "data": args.data,
        "teacher": teacher if uses_teacher else None,
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
        "augment": not args.no_augment and args.data not in NO_AUGMENTATION,
        "deterministic": args.deterministic,
    }
    root = args.output / args.data
    if args.augmentations_per_image and uses_teacher:
        if recipe.views or recipe.pruning:
            raise ValueError(
                f"--augmentations-per-image: {method} uses another teacher or other "
                "images in each step, so the teacher's outputs cannot be stored. Omit "
                "--augmentations-per-image, or that method."
            )
        shared = {n: v for n, v in settings.items() if n not in NOT_PRECOMPUTED}
        key = hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()
        outputs_dir = root / "teacher_outputs" / f"{teacher}-{key[:12]}"
    pair = f"{teacher}-{student}" if teacher else student
    folder = root / pair / method / f"{backend}-seed{seed}"
    return RunPlan(settings, recipe, folder, teacher_file, outputs_dir, args.data_dir)


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
    return dataclasses.replace(
        recipe,
        batch_size=args.batch_size or recipe.batch_size,
        learning_rate=args.learning_rate or recipe.learning_rate,
    )


def _losses_with_warmup(recipe):
    """The arguments of each loss that has a warm-up."""
    arguments = [loss["arguments"] for loss in recipe.distillation_losses.values()]
    return [values for values in arguments if "warmup_epochs" in values]
