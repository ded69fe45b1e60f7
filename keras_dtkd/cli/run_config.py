"""The settings that identify a run, and its plan."""

import dataclasses
import hashlib
import json
from pathlib import Path

from keras_dtkd import recipes
from keras_dtkd.cli import teacher
from keras_dtkd.cli.data import NO_AUGMENTATION
from keras_dtkd.core.model_pairs import match_pair
from keras_dtkd.models import registry

# Names in run.json, where published studies have another name than the attribute.
FILE_NAMES = {"augmentations_per_image": "versions"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Settings of a run. Runs with equal settings are the same run.

    Attributes:
        teacher: `None` if the student trains without a teacher.
        teacher_sha256: Digest of the file of the teacher's weights.
        others: The options of docs/cli.md.
    """

    data: str
    teacher: str | None
    teacher_sha256: str | None
    student: str
    method: str
    backend: str
    seed: int
    precision: str
    epochs: int
    batch_size: int
    learning_rate: float
    warmup: int | None
    validation: float
    train_size: int | None
    augmentations_per_image: int | None
    augment: bool
    deterministic: bool

    def to_dict(self):
        """The settings for run.json."""
        return {FILE_NAMES.get(n, n): v for n, v in dataclasses.asdict(self).items()}


@dataclasses.dataclass(frozen=True)
class RunPlan:
    """A run before its start.

    Attributes:
        config: Settings that identify the run.
        recipe: Its `Recipe`.
        folder: Its folder.
        teacher_file: File of the teacher's weights, or `None`.
        teacher_outputs_dir: Folder of the stored teacher outputs; `None` if the teacher
            runs in each step.
        data_dir: Folder of the data set, or `None`.
    """

    config: RunConfig
    recipe: recipes.Recipe
    folder: Path
    teacher_file: Path | None
    teacher_outputs_dir: Path | None
    data_dir: Path | None

    def to_dict(self):
        """The plan for run.json."""
        return {
            "settings": self.config.to_dict(),
            "recipe": self.recipe.to_dict(),
            "paths": {
                "teacher_weights": self.teacher_file and str(self.teacher_file),
                "data_dir": self.data_dir and str(self.data_dir),
            },
        }

    def diff(self, saved):
        """Where the content of a run.json differs: `(name, saved, planned)`, a list."""
        planned = json.loads(json.dumps(self.to_dict()))
        ignored = {"source", *planned["settings"]}
        differences = []
        for section in ("settings", "recipe"):
            old, new = saved.get(section, {}), planned[section]
            for name in {**old, **new}:
                # The source is prose, and the settings repeat fields of the recipe.
                if section == "recipe" and name in ignored:
                    continue
                if old.get(name) != new.get(name):
                    differences.append((name, old.get(name), new.get(name)))
        return differences


def plan_run(args, method, backend, seed):
    """The `RunPlan` of parsed options. Reads only the file of the teacher's weights.

    Raises:
        ValueError: Unknown network, or a missing teacher.
    """
    student = resolve_network(args.student)
    teacher_name = args.teacher and resolve_network(args.teacher)
    recipe = _recipe(args, method, teacher_name, student)
    uses_teacher = bool(recipe.distillation_losses)
    teacher_file = digest = None
    if uses_teacher:
        teacher.validate_teacher_options(method, args)
        teacher_file = teacher.resolve_weights(
            args.teacher_weights, teacher_name, args.data
        )
        digest = hashlib.sha256(teacher_file.read_bytes()).hexdigest()
    config = RunConfig(
        data=args.data,
        teacher=teacher_name if uses_teacher else None,
        teacher_sha256=digest,
        student=student,
        method=method,
        backend=backend,
        seed=seed,
        precision=args.precision,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        warmup=args.warmup if _losses_with_warmup(recipe) else None,
        validation=args.validation,
        train_size=args.train_size,
        augmentations_per_image=args.augmentations_per_image,
        augment=not args.no_augment and args.data not in NO_AUGMENTATION,
        deterministic=args.deterministic,
    )
    root = args.output / args.data
    pair = f"{teacher_name}-{student}" if teacher_name else student
    outputs_dir = None
    if args.augmentations_per_image and uses_teacher:
        _validate_precompute(recipe)
        outputs_dir = root / "teacher_outputs" / _precompute_key(config)
    folder = root / pair / method / f"{backend}-seed{seed}"
    return RunPlan(config, recipe, folder, teacher_file, outputs_dir, args.data_dir)


def _validate_precompute(recipe):
    if recipe.views or recipe.pruning:
        raise ValueError(
            f"--augmentations-per-image: {recipe.method} uses another teacher or other "
            "images in each step, so the teacher's outputs cannot be stored. Omit "
            "--augmentations-per-image, or that method."
        )


def _precompute_key(config):
    """The same for all runs with the same images and the same teacher."""
    settings = config.to_dict()
    for name in (
        *("student", "method", "backend", "seed", "epochs"),
        *("learning_rate", "warmup", "deterministic"),
    ):
        del settings[name]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    return f"{config.teacher}-{digest.hexdigest()[:12]}"


def resolve_network(name):
    """A network's name as `models.MODEL_NAMES` spells it, or `ValueError`."""
    known = registry.match_name(name)
    if known is None:
        names = ", ".join(registry.MODEL_NAMES)
        raise ValueError(f"unknown network {name!r}. Choose one of: {names}.")
    return known


def _recipe(args, method, teacher_name, student):
    if teacher_name and match_pair(teacher_name, student):
        recipe = recipes.get(method, teacher_name, student, args.data)
    else:
        # The papers have constants for their pairs only.
        recipe = recipes.get(method, student=student, data=args.data)
        if recipe.distillation_losses:
            recipe = dataclasses.replace(recipe, teacher=teacher_name)
    if args.epochs:
        recipe = recipe.scaled_to(args.epochs)
    changes = {
        name: value
        for name in ("batch_size", "learning_rate")
        if (value := getattr(args, name)) is not None
    }
    if args.warmup is not None:
        for arguments in _losses_with_warmup(recipe):
            arguments["warmup_epochs"] = args.warmup
    return dataclasses.replace(recipe, **changes)


def _losses_with_warmup(recipe):
    """The arguments of each loss that has a warm-up."""
    arguments = [loss["arguments"] for loss in recipe.distillation_losses.values()]
    return [values for values in arguments if "warmup_epochs" in values]
