"""What makes a run the run it is."""

import dataclasses
import hashlib
import json

from keras_dtkd import recipes
from keras_dtkd.cli import teacher
from keras_dtkd.cli.data import NEVER_AUGMENTED
from keras_dtkd.core.model_pairs import match_pair
from keras_dtkd.models import registry


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Two runs with equal settings are the same run.

    Attributes:
        teacher: `None` where the student trains alone.
        teacher_sha256: Of the file with its weights.
        others: See docs/cli.md.
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
    versions: int | None
    augment: bool
    deterministic: bool


@dataclasses.dataclass(frozen=True)
class RunPlan:
    """One run, before it starts.

    Attributes:
        settings: What makes it this run.
        recipe: What it trains with.
        folder: Where it lies.
        teacher_file: The teacher's weights, or `None`.
        answers: Where the teacher's answers are kept, or `None` if it is asked in each
            step.
        data_dir: Where the data is, or `None`.
    """

    settings: RunConfig
    recipe: recipes.Recipe
    folder: object
    teacher_file: object
    answers: object
    data_dir: object

    def to_dict(self):
        """For run.json."""
        return {
            "settings": dataclasses.asdict(self.settings),
            "recipe": self.recipe.to_dict(),
            "paths": {
                "teacher_weights": self.teacher_file and str(self.teacher_file),
                "data_dir": self.data_dir and str(self.data_dir),
            },
        }

    def differences(self, saved):
        """In what run.json tells of another run: name, there, here."""
        own = json.loads(json.dumps(self.to_dict()))
        found = []
        for part in ("settings", "recipe"):
            there, here = saved.get(part, {}), own[part]
            for name in {**there, **here}:
                # Words change, and a number of the recipe may stand in the settings.
                if name == "source" or name in own["settings"] and part == "recipe":
                    continue
                if there.get(name) != here.get(name):
                    found.append((name, there.get(name), here.get(name)))
        return found


def plan_run(args, method, backend, seed):
    """The run that options ask for.

    Args:
        args: What `options.add` has parsed.
        method: Name of the method.
        backend: Name of the backend.
        seed: The seed.

    Returns:
        A `Plan`. Nothing is read but the teacher's file.

    Raises:
        ValueError: No such method or network, or a teacher is needed.
    """
    student = network(args.student)
    named = args.teacher and network(args.teacher)
    recipe = _recipe(args, method, named, student)
    file = None
    if alone := not recipe.distillation_losses:
        folder = f"{named}-{student}" if named else student
    else:
        teacher.check_given(method, args)
        file = teacher.find(args.teacher_weights, named, args.data)
        folder = f"{named}-{student}"
    settings = RunConfig(
        data=args.data,
        teacher=None if alone else named,
        teacher_sha256=file and hashlib.sha256(file.read_bytes()).hexdigest(),
        student=student,
        method=method,
        backend=backend,
        seed=seed,
        precision=args.precision,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        warmup=args.warmup if _warm(recipe) else None,
        validation=args.validation,
        train_size=args.train_size,
        versions=args.versions,
        augment=not args.no_augment and args.data not in NEVER_AUGMENTED,
        deterministic=args.deterministic,
    )
    where = args.output / args.data / folder / method / f"{backend}-seed{seed}"
    answers = None
    if args.versions and file:
        _answerable(recipe)
        answers = args.output / args.data / "answers" / _name_of_answers(settings)
    return RunPlan(settings, recipe, where, file, answers, args.data_dir)


def _answerable(recipe):
    if recipe.views or recipe.pruning:
        raise ValueError(
            f"--versions: {recipe.method} asks another teacher, or about other images, "
            "in each step, and no answers to that are stored. Leave out --versions, or "
            "that method."
        )


def _name_of_answers(settings):
    """The same for all runs that see the same images and the same teacher."""
    common = dataclasses.asdict(settings)
    for name in (
        *("student", "method", "backend", "seed", "epochs"),
        *("learning_rate", "warmup", "deterministic"),
    ):
        del common[name]
    digest = hashlib.sha256(json.dumps(common, sort_keys=True).encode())
    return f"{settings.teacher}-{digest.hexdigest()[:12]}"


def network(name):
    """A network's name as `models.MODEL_NAMES` has it.

    Raises:
        ValueError: There is none of that name.
    """
    found = registry.match_name(name)
    if found is None:
        names = ", ".join(registry.MODEL_NAMES)
        raise ValueError(f"there is no network {name!r}. Choose one of: {names}.")
    return found


def _recipe(args, method, named, student):
    if named and match_pair(named, student):
        recipe = recipes.get(method, named, student, args.data)
    else:
        # The papers have constants for their pairs only.
        recipe = recipes.get(method, student=student, data=args.data)
        taught = named if recipe.distillation_losses else None
        recipe = dataclasses.replace(recipe, teacher=taught)
    if args.epochs:
        recipe = recipe.scaled_to(args.epochs)
    changed = {
        name: value
        for name in ("batch_size", "learning_rate")
        if (value := getattr(args, name)) is not None
    }
    if args.warmup is not None:
        changed["distillation_losses"] = recipe.distillation_losses
        for loss in _warm(recipe):
            loss["warmup_epochs"] = args.warmup
    return dataclasses.replace(recipe, **changed)


def _warm(recipe):
    """Arguments of the losses that have a warm-up."""
    found = [loss["arguments"] for loss in recipe.distillation_losses.values()]
    return [arguments for arguments in found if "warmup_epochs" in arguments]
