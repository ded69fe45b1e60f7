"""What the user changed between two runs, which compiled functions would not see."""

import collections

import keras

from keras_dtkd.core import snapshot
from keras_dtkd.core.issue import ERROR, WARNING, Issue, report_issues
from keras_dtkd.core.snapshot import are_same
from keras_dtkd.losses.base import DistillationLoss
from keras_dtkd.losses.input_gradient_checks import input_gradient_losses
from keras_dtkd.losses.resolve import resolve_losses
from keras_dtkd.preparation import default_compile
from keras_dtkd.teachers.base import resolve_teacher
from keras_dtkd.training import loss_logging
from keras_dtkd.validation.arguments import reject_migrated_arguments
from keras_dtkd.validation.models import check_shared_weights
from keras_dtkd.views.resolve import resolve_views, validate_views

# What a Distiller is made of, but for its teacher.
FIXED = "student", "rollout", "teacher_inputs", "distilled_output", "chunk_size"
PARTS = ("distillation_losses", "views", *FIXED)


def take_snapshot(distiller):
    """The `Snapshot` of a Distiller, its models, losses and views."""
    teacher = distiller.teacher_reference.teacher
    models = () if teacher is None else teacher.models
    parts = [distiller.student, distiller.losses_by_name, distiller.views, *models]
    others = distiller.rollout, distiller.teacher_inputs
    parts += [part for part in others if isinstance(part, keras.layers.Layer)]
    found = snapshot.take_snapshot(parts, distiller.variables)
    found.values.append([*distiller.distillation_losses, *distiller.views])
    return found


def note_state(distiller, is_unchanged=False):
    """Notes what the functions to be compiled will hold, and what is trained.

    `is_unchanged` is what `follow_changes` found: a preparation after it leaves all as
    it is, unless it makes variables.
    """
    cache = distiller.preparation_cache
    if not is_unchanged or not are_same(cache.snapshot.variables, distiller.variables):
        cache.snapshot = take_snapshot(distiller)
    cache.trained_variables = distiller.trainable_variables
    cache.losses = list(distiller.distillation_losses.values())


def has_changed(distiller):
    """Whether other weights or losses are trained than were noted.

    A quick look, for `train_on_batch`, where `take_snapshot` would cost too much.
    """
    cache = distiller.preparation_cache
    if cache.snapshot is None:
        return False
    losses = list(distiller.distillation_losses.values())
    return not (
        are_same(cache.trained_variables, distiller.trainable_variables)
        and are_same(cache.losses, losses)
    )


def follow_changes(distiller):
    """Forgets compiled functions, and what was prepared, where they no longer hold.

    Returns whether there were some, and all of them hold.
    """
    before = distiller.preparation_cache.snapshot
    if before is None:
        return False
    if before.is_same(take_snapshot(distiller)):
        return True
    forget_preparation(distiller)
    distiller.predict_function = None
    losses = distiller.distillation_losses
    if not all(isinstance(loss, DistillationLoss) for loss in losses.values()):
        # Put in place by hand, and not resolved yet.
        distiller.distillation_losses = dict(losses)
    follow_losses(distiller)
    return False


def replace_teacher(distiller, value):
    """Gives a Distiller another teacher, whatever `resolve_teacher` understands."""
    teacher = resolve_teacher(value)
    report_issues(check_shared_weights(teacher, distiller.student))
    distiller.teacher_reference.set(teacher, distiller.teacher_inputs)
    seeds = list(getattr(distiller, "teacher_seeds", ()))
    seeds = distiller.teacher_reference.copy_random_states(seeds)
    distiller.teacher_seeds = seeds
    distiller.output_specs = distiller.output_specs.without_teachers()
    # The compiled functions run another teacher.
    forget_preparation(distiller)


def replace_part(distiller, name, value):
    """Replaces losses or views, which the next run follows."""
    if name in FIXED or not distiller.teacher_is_frozen:
        raise ValueError(
            f"`{type(distiller).__name__}`: its `{name}` cannot be exchanged. Make "
            f"another one: `{type(distiller).__name__}(teacher, student, ...)`."
        )
    if name == "views":
        parts, new = distiller.views, resolve_views(value)
    else:
        parts, new = distiller.losses_by_name, resolve_losses(value)
        distiller.has_default_losses = False
    # In place: Keras would go on to track, and train, those that are replaced.
    parts.clear()
    parts.update(new)


def forget_preparation(distiller):
    """The next run infers what the outputs are, and compiles, anew."""
    distiller.preparation_cache.clear()
    distiller.train_function = None
    distiller.test_function = None


def reject_misplaced_number(distiller, name, value):
    """Raises a `ValueError` for a number of a loss that is set on a Distiller."""
    is_keras_own = name.startswith("_") or isinstance(value, bool)
    if is_keras_own or name in PARTS or hasattr(distiller, name):
        return
    for loss_name, loss in vars(distiller).get("losses_by_name", {}).items():
        if hasattr(loss, name):
            raise ValueError(
                f"`Distiller`: it has no `{name}` to be set. Set that of a loss: "
                f"`distiller.distillation_losses[{loss_name!r}].{name} = {value!r}`."
            )
    reject_migrated_arguments("Distiller", {name: value})


def follow_losses(distiller):
    """Makes what a Distiller has for its losses: logs, random directions."""
    losses = distiller.distillation_losses
    validate_views(losses, distiller.views)
    gradient_losses = input_gradient_losses(losses).values()
    draws = any(loss.input_gradient != "exact" for loss in gradient_losses)
    if draws and not hasattr(distiller, "direction_seed_generator"):
        distiller.direction_seed_generator = keras.random.SeedGenerator()
    rollout = distiller.rollout
    # Without prompts the length may not be known yet.
    if rollout is not None and rollout.max_length is not None:
        statistics = getattr(distiller, "rollout_statistics", None)
        if statistics is None or statistics.max_length != rollout.max_length:
            distiller.rollout_statistics = rollout.make_statistics()
    names = loss_logging.list_tracker_names(losses, distiller.additional_logs)
    if names != list(distiller.loss_trackers):
        distiller.loss_trackers.clear()
        distiller.loss_trackers.update(loss_logging.build_trackers(names))


def follow_optimizer(distiller):
    """Makes the optimizer again if it knows others than are trained now.

    Also where it is a copy of the student's, whose settings were changed. It keeps its
    state of the variables that it knew.

    Returns:
        A list of issues.
    """
    optimizer, variables = distiller.optimizer, distiller.trainable_variables
    known = distiller.preparation_cache.trained_variables
    is_known = known is None or are_same(known, variables)
    original = default_compile.find_changed_original(distiller)
    if not optimizer.built or (is_known and original is None):
        return []
    if not distiller.teacher_is_frozen:
        message = (
            f"`{type(distiller).__name__}`: other weights are trained than in the last "
            "run, and its optimizer does not know them."
        )
        hint = "Compile it again: `distiller.compile(optimizer, loss)`."
        return [Issue("unknown_variables", ERROR, message, hint)]
    new = default_compile.copy_optimizer(original or optimizer)
    default_compile.compile_again(distiller, new)
    default_compile.exclude_from_weight_decay(distiller)
    new.build(variables)
    _copy_state(optimizer, new)
    if getattr(new, "weight_decay", None) is None:
        return []
    message = (
        "`Distiller`: the optimizer was made again, since other weights are trained "
        "than in the last run, or its settings were changed."
    )
    hint = (
        "If you had excluded variables from its weight decay, they no longer are: "
        "compile with another optimizer that excludes them."
    )
    return [Issue("optimizer_made_again", WARNING, message, hint)]


def _copy_state(optimizer, new):
    """Copies an optimizer's state to one that was built for other variables."""
    counts = collections.Counter(variable.path for variable in optimizer.variables)
    state = {variable.path: variable for variable in optimizer.variables}
    for variable in new.variables:
        old = state.get(variable.path)
        # The learning rate is a setting.
        is_setting = variable.path.endswith("/learning_rate")
        if old is None or is_setting or counts[variable.path] > 1:
            continue
        if old.shape == variable.shape:
            variable.assign(old.value)
