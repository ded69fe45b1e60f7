"""Limits of `keras.distillation` in the installed Keras, shown by small experiments.

    KERAS_BACKEND=jax python benchmarks/keras_distillation.py

Prints a Markdown table: each claim, the measurement on Keras's Distiller, and the same
measurement on `keras_dtkd.Distiller`. A claim that does not hold for the installed
version is marked "does not hold".
"""

import importlib
import math
import tempfile
import warnings
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from keras import layers

import keras_dtkd
from keras_dtkd.losses import KD

CLASSES, FEATURES, SAMPLES = 10, 8, 16


class Result(NamedTuple):
    """The result of one experiment.

    Attributes:
        claim: The claim about `keras.distillation`.
        keras_value: The measurement on `keras.distillation`.
        dtkd_value: The measurement on `keras_dtkd`.
        claim_holds: Whether the claim is true for the installed Keras.
        dtkd_is_correct: Whether the value of `keras_dtkd` is the expected one.
    """

    claim: str
    keras_value: str
    dtkd_value: str
    claim_holds: bool
    dtkd_is_correct: bool


# Models and data, the same at every call.


def data(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(SAMPLES, FEATURES)).astype("float32")
    return x, rng.integers(CLASSES, size=SAMPLES)


def network(seed, units=12, between=(), **kwargs):
    """Two dense layers; `between` them, more layers."""
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(units, "relu", name="features", **kwargs),
            *between,
            layers.Dense(CLASSES),
        ]
    )


def tagger(seed, padding=0.0):
    """A model of sequences that masks padding; `padding` shifts its logits there."""
    keras.utils.set_random_seed(seed)
    embedding = layers.Embedding(5, FEATURES, mask_zero=True)
    model = keras.Sequential([keras.Input((6,)), embedding, layers.Dense(CLASSES)])
    weights = embedding.get_weights()[0]
    weights[0] += padding * np.arange(FEATURES)
    embedding.set_weights([weights])
    return model


def true_kl(temperature=3.0):
    """T²·KL in Keras, with the loss given as an object."""
    return keras.distillation.LogitsDistillation(
        temperature, loss=keras.losses.KLDivergence()
    )


def keras_distiller(teacher, student, loss=None, task_weight=0.5, **kwargs):
    loss = loss or true_kl()
    return compiled(
        keras.distillation.Distiller(
            teacher, student, loss, student_loss_weight=task_weight
        ),
        **kwargs,
    )


def dtkd_distiller(teacher, student, loss=None, task_weight=0.5, **kwargs):
    loss = loss or KD(3.0, weight=1.0 - task_weight)
    distiller = keras_dtkd.Distiller(teacher, student, loss, task_weight=task_weight)
    return compiled(distiller, **kwargs)


def compiled(distiller, rate=0.1, **kwargs):
    distiller.compile(
        optimizer=keras.optimizers.SGD(rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **kwargs,
    )
    return distiller


BUILDERS = (keras_distiller, dtkd_distiller)


def weights_after_step(distiller, x, y, **kwargs):
    """The student's weights after one step, in one vector."""
    distiller.fit(x, y, batch_size=len(x), verbose=0, **kwargs)
    return flat_weights(distiller.student)


def flat_weights(model):
    return np.concatenate([w.ravel() for w in model.get_weights()])


def max_difference(a, b):
    return float(np.abs(a - b).max())


# The experiments.


def default_loss_is_not_kl():
    """`loss="kl_divergence"`, the default, is resolved to another function."""
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(2, SAMPLES, CLASSES)).astype("float32")
    p, q = (log_softmax(z.astype("float64") / 3.0) for z in (teacher, student))
    expected = 9.0 * (np.exp(p) * (p - q)).sum(-1).mean()
    values = [
        [float(loss.compute_loss(teacher, logits)) for logits in (student, teacher)]
        for loss in (keras.distillation.LogitsDistillation(3.0), KD(3.0))
    ]
    is_wrong = [max(abs(v[0] - expected), abs(v[1])) > 1e-4 for v in values]
    return Result(
        "Its default loss is not a KL divergence",
        *(f"{v[0]:.3f} where T²·KL is {expected:.3f}" for v in values),
        is_wrong[0],
        not is_wrong[1],
    )


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def true_kl_has_no_gradient():
    """Probabilities below 1e-7 are clipped, and a clip has no gradient."""
    x, y = data()
    steps = []
    for build in BUILDERS:
        teacher, student = network(1), network(2)
        for predicted_class, model in enumerate((teacher, student)):
            bias = 100.0 * (np.arange(CLASSES) == predicted_class)
            model.layers[-1].bias.assign(bias)
        before = flat_weights(student)
        after = weights_after_step(build(teacher, student, task_weight=0.0), x, y)
        steps.append(max_difference(before, after))
    return Result(
        "Its true KL has no gradient for a confidently wrong student",
        *(
            f"teacher and student 100 apart: the step moves weights by {s:.1e}"
            for s in steps
        ),
        steps[0] < 1e-5,
        steps[1] > 1e-3,
    )


def sample_weight_is_ignored():
    x, y = data()
    steps = []
    for build in BUILDERS:
        student = network(2)
        before = flat_weights(student)
        after = weights_after_step(
            build(network(1), student), x, y, sample_weight=np.zeros(len(x))
        )
        steps.append(max_difference(before, after))
    return Result(
        "`sample_weight` is ignored",
        *(f"all weights 0: the step moves weights by {s:.1e}" for s in steps),
        steps[0] > 0,
        steps[1] == 0,
    )


def masks_are_ignored():
    """Two teachers that differ only at masked positions."""
    x = np.array([[1, 2, 3, 4, 0, 0], [4, 3, 0, 0, 0, 0]] * 4)
    differences = []
    for build in BUILDERS:
        weights = [
            weights_after_step(
                build(tagger(1, padding), tagger(2), task_weight=0.0), x, x
            )
            for padding in (0.0, 1.0)
        ]
        differences.append(max_difference(*weights))
    return Result(
        "Masks are ignored",
        *(f"masked positions move weights by {d:.1e}" for d in differences),
        differences[0] > 1e-6,
        differences[1] <= 1e-6,
    )


def regularizers_are_ignored():
    """A kernel regularizer, and a layer's `add_loss`."""
    x, y = data()
    effects = []
    for build in BUILDERS:
        plain = weights_after_step(build(network(1), network(2)), x, y)
        decay = network(2, kernel_regularizer=keras.regularizers.L2(0.1))
        extra = network(2, between=[layers.ActivityRegularization(l2=1.0)])
        effects.append(
            [
                max_difference(plain, weights_after_step(build(network(1), s), x, y))
                for s in (decay, extra)
            ]
        )
    return Result(
        "The student's regularizers and `add_loss` are ignored",
        *("their effect: {:.1e} and {:.1e}".format(*e) for e in effects),
        # Rounding may differ between two compiled steps.
        max(effects[0]) < 1e-6,
        min(effects[1]) > 1e-4,
    )


def features_cost_a_second_student_pass():
    """BatchNorm's moving mean, momentum ½, changes by `1 − ½ⁿ` in n passes."""
    x, y = data()
    x = x + 3.0
    passes = []
    for build in BUILDERS:
        # Depends only on the first layer, which is constant at learning rate 0.
        norm = layers.BatchNormalization(momentum=0.5)
        student = network(2, between=[norm])
        expected = np.maximum(x @ student.layers[0].get_weights()[0], 0).mean(0)
        loss = keras.distillation.FeatureDistillation(
            teacher_layer_name="features", student_layer_name="features"
        )
        weights_after_step(build(network(1), student, loss, rate=0.0), x, y)
        moving = np.abs(keras.ops.convert_to_numpy(norm.moving_mean)).sum()
        passes.append(-math.log2(1.0 - moving / np.abs(expected).sum()))
    return Result(
        "Matching features takes a second pass through the student",
        *(f"BatchNorm is updated {n:.2f} times a step" for n in passes),
        passes[0] > 1.5,
        abs(passes[1] - 1.0) < 0.01,
    )


def teacher_runs_in_evaluate():
    x, y = data()
    calls = []
    for build in BUILDERS:
        teacher = network(1)
        distiller = build(teacher, network(2), run_eagerly=True)
        distiller.evaluate(x, y, verbose=0)
        count, call = [], teacher.call
        teacher.call = lambda *a, count=count, call=call, **k: (
            count.append(1) or call(*a, **k)
        )
        distiller.evaluate(x, y, batch_size=4, verbose=0)
        calls.append(len(count))
    return Result(
        "The teacher runs in `evaluate`, and so in validation",
        *(f"{n} teacher passes for 4 batches" for n in calls),
        calls[0] > 0,
        calls[1] == 0,
    )


def teacher_is_in_every_checkpoint():
    x, y = data()
    sizes, numbers = [], []
    for build in BUILDERS:
        distiller = build(network(1, units=2000), network(2))
        distiller.fit(x, y, verbose=0)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "checkpoint.weights.h5"
            distiller.save_weights(path)
            sizes.append(path.stat().st_size / 1e3)
        numbers.append(sum(w.size for w in distiller.get_weights()))
    student = network(2).count_params()
    return Result(
        f"The teacher is in every checkpoint and in `get_weights` (student: {student})",
        *(f"{s:.0f} kB; {n} numbers" for s, n in zip(sizes, numbers, strict=True)),
        numbers[0] > 2 * student,
        numbers[1] < 2 * student,
    )


def float16_overflows():
    """The default loss, on logits of an ordinary size from float16 models."""
    rng = np.random.default_rng(0)
    logits = keras.ops.cast(rng.normal(size=(2, SAMPLES, CLASSES)), "float16")
    values = [
        float(loss.compute_loss(logits[0], logits[1]))
        for loss in (keras.distillation.LogitsDistillation(3.0), KD(3.0))
    ]
    return Result(
        "Its default loss is infinite in float16",
        *(f"logits of size 1 give {v:.3f}" for v in values),
        not np.isfinite(values[0]),
        bool(np.isfinite(values[1])),
    )


def teacher_is_frozen():
    x, y = data()
    flags = []
    for build in BUILDERS:
        teacher = network(1)
        build(teacher, network(2)).fit(x, y, verbose=0)
        flags.append(teacher.trainable)
    return Result(
        "The user's teacher is left frozen",
        *(f"`teacher.trainable` is {flag}" for flag in flags),
        not flags[0],
        flags[1],
    )


EXPERIMENTS = (
    default_loss_is_not_kl,
    true_kl_has_no_gradient,
    float16_overflows,
    sample_weight_is_ignored,
    masks_are_ignored,
    regularizers_are_ignored,
    features_cost_a_second_student_pass,
    teacher_runs_in_evaluate,
    teacher_is_in_every_checkpoint,
    teacher_is_frozen,
)


def main():
    backend = keras.backend.backend()
    version = importlib.import_module(backend).__version__
    if not hasattr(keras, "distillation"):
        raise SystemExit(f"Keras {keras.__version__} has no `keras.distillation`.")
    # The warnings about untrained teachers are expected here.
    warnings.filterwarnings("ignore", category=UserWarning)
    print(
        f"| on {backend} {version} | `keras.distillation` {keras.__version__} "
        f"| `keras_dtkd` {keras_dtkd.__version__} |\n|---|---|---|"
    )
    for experiment in EXPERIMENTS:
        result = experiment()
        keras_mark = "" if result.claim_holds else " — **does not hold**"
        dtkd_mark = "" if result.dtkd_is_correct else " — **wrong**"
        print(
            f"| {result.claim} | {result.keras_value}{keras_mark} "
            f"| {result.dtkd_value}{dtkd_mark} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
