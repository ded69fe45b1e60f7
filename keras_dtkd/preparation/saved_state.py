"""What the files of a Distiller hold: everything but the teacher."""

import contextlib
import dataclasses
import re

import keras
import numpy as np
from keras import ops

from keras_dtkd.preparation import default_compile
from keras_dtkd.preparation.build_losses import build_losses_from_specs
from keras_dtkd.preparation.output_spec import OutputSpec, OutputSpecs, SpecPair
from keras_dtkd.teachers.reference import read_fingerprint, write_fingerprint
from keras_dtkd.training import task_loss

# The last two of an `InteractiveDistiller`.
KERAS_OBJECTS = (
    *("student", "distillation_losses", "views", "rollout", "teacher_inputs"),
    *("teacher", "teacher_optimizer"),
)

# First in a file's configuration, which Keras prints where keras_dtkd is not imported.
ABOUT = (
    "This file holds a Distiller, not its student alone. After `import keras_dtkd`, "
    "`keras.saving.load_model(file).student` is the student, an ordinary Keras model."
)


def _seed_variables(distiller):
    """Random states (of dropout): Keras has them, but in none of its files."""
    others = [*distiller.weights, *_teacher_seed_variables(distiller)]
    ids = {id(variable) for variable in others}
    return [v for v in distiller.variables if id(v) not in ids]


def _teacher_seed_variables(distiller):
    return [seed.state for seed in getattr(distiller, "teacher_seeds", ())]


def write_state(distiller, store):
    """Writes random states and the teacher's fingerprint into a file."""
    for i, seed in enumerate(_seed_variables(distiller)):
        store[f"seed_{i}"] = ops.convert_to_numpy(seed)
    for i, seed in enumerate(_teacher_seed_variables(distiller)):
        store[f"teacher_seed_{i}"] = ops.convert_to_numpy(seed)
    write_fingerprint(store, distiller.teacher_fingerprint())


def read_state(distiller, store):
    """Reads what `write_state` wrote. Returns the rest of the file's entries.

    Raises:
        ValueError: The file belongs to a run with another teacher.
    """
    store, fingerprint = read_fingerprint(store)
    names = list(store.keys())
    seeds = [name for name in names if name.startswith("seed_")]
    teachers = [name for name in names if name.startswith("teacher_seed_")]
    reference = distiller.teacher_reference
    reference.load(fingerprint, [store[name] for name in teachers])
    for i, variable in enumerate(_seed_variables(distiller) if seeds else ()):
        variable.assign(store[f"seed_{i}"])
    if reference.teacher is not None:
        reference.expected_seeds = None
        for i, variable in enumerate(_teacher_seed_variables(distiller)):
            if f"teacher_seed_{i}" in names:
                variable.assign(store[f"teacher_seed_{i}"])
    return {name: store[name] for name in names if name not in {*seeds, *teachers}}


@contextlib.contextmanager
def restored_on_error(distiller):
    """A context in which a file that is refused leaves everything as it was."""
    variables = list(distiller.variables)
    if distiller.compiled:
        variables += distiller.optimizer.variables
    before = [np.array(ops.convert_to_numpy(v)) for v in variables]
    try:
        yield
    except ValueError:
        # Keras goes on to the student after the Distiller itself has refused.
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
        raise


def get_config(distiller, keras_config):
    """A Distiller's arguments, and what was found out when it was prepared.

    `keras_config` is that of `keras.Model`.
    """
    serialize = keras.saving.serialize_keras_object
    losses, specs = distiller.distillation_losses, distiller.output_specs.pairs
    return {
        "about": ABOUT,
        **keras_config,
        "student": serialize(distiller.student),
        "distillation_losses": {name: serialize(o) for name, o in losses.items()},
        "views": {name: serialize(view) for name, view in distiller.views.items()},
        "rollout": serialize(distiller.rollout),
        "teacher_inputs": serialize(distiller.teacher_inputs),
        "chunk_size": distiller.chunk_size,
        "task_weight": distiller.task_weight,
        "from_logits": distiller.from_logits,
        "output": distiller.distilled_output,
        "evaluate_distillation": distiller.evaluate_distillation,
        "torch_compile": distiller.torch_compile,
        "teacher_fingerprint": distiller.teacher_fingerprint(),
        "output_specs": [
            [key, *(None if spec is None else spec.to_dict() for spec in pair)]
            for key, pair in specs.items()
        ],
        "labelled_outputs": distiller.output_specs.labelled,
        "step_specs": {
            name: serialize(loss.step_spec)
            for name, loss in losses.items()
            if loss.step_spec is not None
        },
    }


def from_config(build, config, custom_objects=None):
    """A Distiller from what `get_config` gave, by a function of its arguments."""
    config = {name: value for name, value in config.items() if name != "about"}
    deserialize = keras.saving.deserialize_keras_object
    fingerprint = config.pop("teacher_fingerprint")
    output_specs, step_specs = config.pop("output_specs"), config.pop("step_specs")
    labelled = config.pop("labelled_outputs")
    for key in KERAS_OBJECTS:
        if key in config:
            try:
                config[key] = deserialize(config[key], custom_objects)
            except TypeError as error:
                raise TypeError(_unregistered(key, error)) from error
    distiller = build(**config)
    distiller.teacher_reference.expected_fingerprint = fingerprint
    distiller.output_specs = OutputSpecs(
        {
            key: SpecPair(*(s and OutputSpec.from_dict(s) for s in specs))
            for key, *specs in output_specs
        },
        labelled,
    )
    build_losses_from_specs(
        distiller, {name: deserialize(spec) for name, spec in step_specs.items()}
    )
    return distiller


def _unregistered(key, error):
    """What to do about a class or function that Keras cannot find."""
    # Keras names it, and then prints all of the configuration.
    found = re.search(r"Could not locate (class|function) '(\w+)'", str(error))
    if not found:
        return str(error)
    kind, name = found.groups()
    return (
        f"`Distiller`: `{key}` in this file needs the {kind} `{name}`, which Keras "
        "does not know. Put `@keras.saving.register_keras_serializable()` above the "
        f"{kind}, before saving and loading; or load with "
        f"`custom_objects={{'{name}': {name}}}`."
    )


def add_compile_origin(distiller, config):
    """A configuration of `compile`, and where it comes from."""
    if not distiller.compiled:
        return config
    return {**config, "compile_origin": distiller.compile_origin.get_config()}


def compile_again(distiller, config):
    """Compiles from a configuration; takes over from the student again."""
    config = dict(config)
    origin = config.pop("compile_origin", {})
    # Of a class with its own `compile` Keras restores nothing: KerasHub's models are
    # compiled anew, as by default.
    is_restored = default_compile.is_compiled(distiller.student)
    is_restored = is_restored and not task_loss.overrides(distiller.student, "compile")
    if origin.get("source") == "student" and is_restored:
        has_labels = origin.get("label_format") is not None
        default_compile.compile_like_student(distiller, has_labels)
    elif config:
        distiller.compile(**keras.saving.deserialize_keras_object(config))
    else:
        return
    distiller.compile_origin = dataclasses.replace(
        distiller.compile_origin,
        **origin,
        student=default_compile.students_compilation(distiller.student),
    )
    default_compile.exclude_from_weight_decay(distiller)
    if distiller.built:
        variables = distiller.trainable_variables
        distiller.optimizer.build(variables)
        distiller.preparation_cache.trained_variables = list(variables)
