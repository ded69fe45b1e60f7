"""What the same training looks like on one device, here or in a worker."""

import json
from pathlib import Path

import keras
import numpy as np
from keras import layers

import keras_dtkd
from keras_dtkd import rollouts
from keras_dtkd.losses import KD, InputGradientAlignment
from tests.language import language_model, make_prompts

FEATURES, CLASSES = 6, 4
BATCH = 16


def data(rows):
    """The first rows of always the same inputs, labels and weights."""
    random = np.random.default_rng(0)
    x = random.normal(size=(64, FEATURES)).astype("float32")
    y = (x @ random.normal(size=(FEATURES, CLASSES))).argmax(-1).astype("int32")
    sample_weight = random.uniform(0.2, 2.0, 64).astype("float32")
    return x[:rows], y[:rows], sample_weight[:rows]


def network(width, seed, l2=None):
    """No BatchNorm: its statistics are those of a device's own rows."""

    def dense(units, number, **kwargs):
        initializer = keras.initializers.GlorotUniform(seed=seed + number)
        return layers.Dense(units, kernel_initializer=initializer, **kwargs)

    regularizer = keras.regularizers.L2(l2) if l2 else None
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            dense(width, 0, activation="relu", kernel_regularizer=regularizer),
            layers.LayerNormalization(),
            dense(CLASSES, 1),
        ]
    )


def teacher():
    return network(16, 1)


def student(seed=5):
    return network(8, seed, l2=0.01)


def sgd(**kwargs):
    return keras.optimizers.SGD(0.05, momentum=0.9, **kwargs)


def adam(**kwargs):
    return keras.optimizers.Adam(0.01, **kwargs)


def distiller(optimizer, by=None, seed=5, model=None, jit="auto", **kwargs):
    model = keras_dtkd.Distiller(by or teacher(), model or student(seed), **kwargs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=jit)
    return model


def aligned(optimizer, seed=5, jit="auto"):
    """KDIGA, whose loss has the models' derivatives in it."""
    losses = [KD(1.0, weight=0.5), InputGradientAlignment()]
    options = {"distillation_losses": losses, "task_weight": 0.5}
    return distiller(optimizer, seed=seed, jit=jit, **options)


def interactive(optimizer, by=None, seed=5, **kwargs):
    """Its teacher takes plain steps, which show the size of their gradients."""
    kwargs.setdefault("teacher_optimizer", keras.optimizers.SGD(0.5))
    # For what is drawn of the exam.
    keras.utils.set_random_seed(0)
    model = keras_dtkd.InteractiveDistiller(by or teacher(), student(seed), **kwargs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # XLA compiles slowly under TensorFlow: the default alone.
    slow = keras.config.backend() == "tensorflow" and len(kwargs) > 1
    jit = False if slow else "auto"
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=jit)
    x, y, _ = data(64)
    model.set_exam(x[50:], y[50:])
    return model


def language(optimizer, seed=5):
    """A student that drafts and a teacher that corrects, within the step."""
    rollout = rollouts.Speculative(8, k=4, stop_token_ids=3, seed=1)
    models = language_model(0), language_model(seed)
    model = keras_dtkd.Distiller(*models, KD(1.0), rollout=rollout)
    # XLA compiles loops slowly under TensorFlow.
    jit = False if keras.config.backend() == "tensorflow" else "auto"
    model.compile(optimizer, jit_compile=jit)
    return model


def fit_prompts(model, rows, part=lambda *arrays: arrays, batch_size=BATCH):
    """Two epochs of prompts of unequal length; the logs of the last."""
    prompts = make_prompts(rows, 4)
    names = list(prompts)
    parts = part(*prompts.values())
    prompts = dict(zip(names, parts, strict=True))
    options = {"epochs": 2, "shuffle": False, "verbose": 0}
    logs = model.fit(prompts, batch_size=batch_size, **options).history
    # The mean of each device's tokens, and then of the devices.
    for name in ("tokens_per_second", "agreement"):
        logs.pop(name, None)
    return {name: float(values[-1]) for name, values in logs.items()}


# Feedback by each estimator, a drawn exam, and the controls.
INTERACTIVE = {
    "feedback": {},
    "jvp": {"estimator": "jvp"},
    "finite_difference": {"estimator": "finite_difference"},
    "drawn": {"exam_batch_size": 5},
    "for_teacher": {"exam_for": "teacher"},
    "for_student": {"exam_for": "student"},
}


def fit(model, rows, part=lambda *arrays: arrays, batch_size=BATCH, **kwargs):
    """Two epochs; the logs of the last.

    Args:
        model: A Distiller.
        rows: How many rows the whole data has.
        part: Gives this process's rows of all arrays.
        batch_size: This process's.
        **kwargs: For `fit`.
    """
    x, y, sample_weight = part(*data(rows))
    kwargs = {"epochs": 2, "shuffle": False, "verbose": 0, **kwargs}
    kwargs.setdefault("sample_weight", sample_weight)
    history = model.fit(x, y, batch_size, **kwargs).history
    return {name: float(values[-1]) for name, values in history.items()}


def state(model):
    """Student, optimizer, and a teacher that learns: what a step changes."""
    teacher = getattr(model, "trainable_teacher", None)
    learned = teacher.variables if teacher else []
    variables = [*model.student.variables, *learned, *model.optimizer.variables]
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


class Report:
    """What a worker found, by name, in one file for each process."""

    def __init__(self, folder, rank=0):
        self.path = Path(folder) / f"rank{rank}"
        self.found, self.arrays = {}, {}

    def fit(self, name, model, *args, **kwargs):
        self.found[name] = fit(model, *args, **kwargs)
        self.state(name, model)

    def fit_prompts(self, name, model, *args, **kwargs):
        self.found[name] = fit_prompts(model, *args, **kwargs)
        self.state(name, model)

    def state(self, name, model):
        for number, array in enumerate(state(model)):
            self.arrays[f"{name}/{number}"] = array

    def error(self, name, function):
        try:
            function()
        except Exception as error:
            self.found[name] = f"{type(error).__name__}: {error}"

    def write(self):
        np.savez(self.path.with_suffix(".npz"), **self.arrays)
        self.path.with_suffix(".json").write_text(json.dumps(self.found))
