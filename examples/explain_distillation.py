"""What does a student take from its teacher? Attention that shows it

KDExplainer (Xue et al., arXiv 2105.04181) trains a student whose classes choose, by an
attention that can be looked at, which blocks they share. Its claims: knowledge
distillation (KD) concentrates this attention; KD does more than label smoothing; and
attention within convolutions (VAM) improves ordinary students, alone and with KD. This
example distils such a student, draws its tree, and measures each claim over five seeds
with controls, on handwritten digits and on ten classes of CIFAR-100. VAM's equation is
not public: what is measured is a reconstruction.

Digits take 40 minutes on a processor core. CIFAR-100's part takes three hours, and runs
where `KERAS_DTKD_CIFAR100` is a TensorFlow Datasets folder and `KERAS_DTKD_RESNET32X4`
the weights of a teacher (docs/models.md). If it is interrupted, the same command
resumes it. With `KERAS_DTKD_QUICK=1`, a smoke run, it takes a minute. Files go to the
current folder, or to `KERAS_DTKD_OUT`.
"""

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np

import keras_dtkd
from keras_dtkd import Distiller, callbacks, datasets, layers, losses, models, plots

# %% [markdown]
# ## A student that shows its blocks
# Each class mixes the outputs of eight blocks, each of these has mixed those of four,
# and each of these those of two. The lower the attention's temperature, the more a
# class decides for one block.


# %%
def new_mixture(input_shape, block, entropy_weight=0.0):
    return models.HierarchicalMixture(
        10,
        input_shape,
        block=block,
        heads=models.ClassHeads((32,)),
        entropy_weight=entropy_weight,
    )


def published_temperature(epochs):
    """10 / epoch over 300 epochs, in fewer epochs."""
    return lambda epoch: 10 / (1 + epoch * 299 / max(epochs - 1, 1))


# %% [markdown]
# ## Digits
# 1,000 images to train teacher and student, 297 for validation, 500 to test.

# %%
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

QUICK = os.environ.get("KERAS_DTKD_QUICK") == "1"
BATCH_SIZE = 64


def compiled(model, epochs, examples, smoothing=0.0):
    steps = -(-examples // BATCH_SIZE) * epochs
    rate = keras.optimizers.schedules.CosineDecay(0.003, steps)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=5e-4)
    # Weight decay would make the attention uniform.
    names = "theta", "bias", "gamma", "beta"
    optimizer.exclude_from_weight_decay(var_names=names)
    # Within a Distiller, what the layers exempt replaces this list.
    model.variables_without_weight_decay = lambda: [
        v for v in model.trainable_variables if any(name in v.name for name in names)
    ]
    loss = keras.losses.CategoricalCrossentropy(True, label_smoothing=smoothing)
    # On a processor, TensorFlow's own kernels are faster than XLA's.
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    return model


def split(x, y, sizes):
    """Parts of equal shares of the classes: `[(x, one-hot y), ...]`."""
    parts = []
    for size in sizes:
        x, part, y, part_y = train_test_split(
            x, y, test_size=size, stratify=y, random_state=0
        )
        parts.append((part, keras.utils.to_categorical(part_y, 10)))
    return [(x, keras.utils.to_categorical(y, 10)), *parts[::-1]]


x, y = load_digits(return_X_y=True)
digits = split((x / 16).astype("float32"), y, (500, 297))
keras.utils.set_random_seed(0)
teacher = keras.Sequential(
    [
        keras.Input((64,)),
        keras.layers.Dense(512, "relu"),
        keras.layers.Dropout(0.3),
        keras.layers.Dense(512, "relu"),
        keras.layers.Dropout(0.3),
        keras.layers.Dense(10),
    ]
)
epochs = 2 if QUICK else 60
compiled(teacher, epochs, 1000)
teacher.fit(*digits[0], batch_size=BATCH_SIZE, epochs=epochs, verbose=0)

# %% [markdown]
# ## One student, and what it took over

# %%
block = models.dense_block(16, normalize=True)
keras.utils.set_random_seed(0)
student = compiled(new_mixture((64,), block), epochs, 1000)
untrained = student.compute_attention()
Distiller(teacher, student, losses.KD(temperature=4.0)).fit(
    *digits[0],
    batch_size=BATCH_SIZE,
    epochs=epochs,
    validation_data=digits[1],
    callbacks=[callbacks.AttentionTemperature(published_temperature(epochs))],
    verbose=0,
)
keras_dtkd.explain(teacher, student, digits[2])

# %% [markdown]
# ## Ten classes of CIFAR-100
# The first ten: 4,500 images to train, 500 for validation, 1,000 to test. The teacher
# is a resnet32x4 that was trained on all of CIFAR-100. Its pooled features are computed
# once; from these, its ten logits are a dense layer.

# %%
from pathlib import Path

OUT = Path(os.environ.get("KERAS_DTKD_OUT", "."))
OUT.mkdir(parents=True, exist_ok=True)
NAME = "explain_distillation_quick" if QUICK else "explain_distillation"
CLASSES = ("apple", "fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle")
CLASSES = (*CLASSES, "bottle")


def compute_once(name, compute):
    """An array, kept in a file."""
    path = OUT / f"{NAME}_{name}.npy"
    if not path.exists():
        unfinished = path.with_suffix(".unfinished.npy")
        np.save(unfinished, compute())
        os.replace(unfinished, path)
    return np.load(path)


def load_cifar(folder, weights):
    """Parts of images and labels, pooled features of the first, and the teacher."""
    mean, deviation = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
    chosen = []
    for x, y in datasets.load_arrays("cifar100", folder):
        x = (x[y < 10] / 255 - mean) / deviation
        chosen.append((x.astype("float32"), y[y < 10]))
    train, (x_test, y_test) = chosen
    parts = [*split(*train, [500]), (x_test, keras.utils.to_categorical(y_test, 10))]
    network = models.load_sequential_npz(models.get("resnet32x4"), weights)
    pooled = keras.Model(network.inputs, network.get_layer("pooled").output)
    features = [
        compute_once(f"pooled_{i}", lambda x=x: pooled.predict(x, batch_size=50))
        for i, (x, _) in enumerate(parts)
    ]
    kernel, bias = network.get_layer("logits").get_weights()
    identity = keras.layers.Identity(name="pooled")
    head = keras.Sequential([keras.Input((256,)), identity, keras.layers.Dense(10)])
    head.set_weights([kernel[:, :10], bias[:10]])
    return parts, features, head


# %% [markdown]
# ## The runs
# The same KD everywhere: a tenth of the cross-entropy, nine tenths of KD at
# temperature 4. Entropies are of the attention at the end, and at temperature 1: with
# a temperature that falls, each attention ends up concentrated. A run keeps the test
# accuracy of the last epoch, and of the one that is best on the validation images.

# %%
import dataclasses
import json
from typing import Any

from keras_dtkd.metrics import AttentionEntropy


@dataclasses.dataclass
class Task:
    """Data and a teacher; columns that the teacher takes as inputs."""

    parts: list
    teacher: Any
    block: Any
    epochs: int
    tree_epochs: int
    temperature: Any = None
    columns: list | None = None

    def inputs(self, part):
        x, _ = self.parts[part]
        if self.columns is None:
            return x
        return datasets.with_columns(x, pooled=self.columns[part])


def new_tasks():
    """The tasks, by name: those of CIFAR-100 where its files are at hand."""
    epochs, tree_epochs = (2, 1) if QUICK else (100, 30)
    anneal = published_temperature(epochs)
    tasks = {"digits": Task(digits, teacher, block, epochs, tree_epochs, anneal)}
    if QUICK:
        return tasks
    tasks |= {
        "digits, constant temperature": Task(
            digits, teacher, block, epochs, tree_epochs
        ),
    }
    folder, weights = map(
        os.environ.get, ("KERAS_DTKD_CIFAR100", "KERAS_DTKD_RESNET32X4")
    )
    if folder and weights:
        parts, columns, head = load_cifar(folder, weights)
        epochs, tree_epochs = 12, 6
        tasks["CIFAR-100"] = Task(
            parts,
            head,
            models.conv_block(16),
            epochs,
            tree_epochs,
            published_temperature(epochs),
            columns,
        )
    return tasks


class BestWeights(keras.callbacks.Callback):
    """Keeps the student's weights of the epoch with the best validation accuracy."""

    def __init__(self, student):
        super().__init__()
        self.student, self.accuracy, self.weights = student, -1.0, None

    def on_epoch_end(self, epoch, logs=None):
        if logs["val_accuracy"] > self.accuracy:
            self.accuracy, self.weights = (
                logs["val_accuracy"],
                self.student.get_weights(),
            )


def train(student, task, epochs, seed, *others, smoothing=0.0, kd=False, added=()):
    """Trains a student: its test accuracies in %, at the last and the best epoch."""
    compiled(student, epochs, len(task.parts[0][0]), smoothing)
    model, x, validation = student, task.parts[0][0], task.parts[1][0]
    if kd:
        column = None if task.columns is None else "pooled"
        matched = [losses.KD(temperature=4.0, weight=0.9), *added]
        model = Distiller(
            task.teacher, student, matched, task_weight=0.1, teacher_inputs=column
        )
        x, validation = task.inputs(0), task.inputs(1)
    best = BestWeights(student)
    keras.utils.set_random_seed(seed)
    model.fit(
        x,
        task.parts[0][1],
        batch_size=BATCH_SIZE,
        epochs=epochs,
        validation_data=(validation, task.parts[1][1]),
        callbacks=[*others, best],
        verbose=0,
    )
    last = measure_accuracy(student, task)
    weights = student.get_weights()
    student.set_weights(best.weights)
    result = {"last": last, "best": measure_accuracy(student, task)}
    student.set_weights(weights)
    return result


def measure_accuracy(model, task):
    x, y = task.parts[2]
    outputs = model.predict(x, batch_size=250, verbose=0)
    return round(100 * float((outputs.argmax(-1) == y.argmax(-1)).mean()), 2)


def measure_entropy(attention):
    """Between 0 (one parent) and 1 (all alike)."""
    metric = AttentionEntropy()
    metric.update_state(attention)
    return round(float(metric.result()), 4)


# What the mixture is trained with.
MIXTURES = {
    "cross-entropy": {},
    "label smoothing": {"smoothing": 0.1},
    "KD": {"kd": True},
    "cross-entropy + 0.01 H": {"entropy_weight": 0.01},
    "KD + 0.01 H": {"kd": True, "entropy_weight": 0.01},
}


def train_mixture(task, arm, seed):
    options = dict(MIXTURES[arm])
    keras.utils.set_random_seed(seed)
    weight = options.pop("entropy_weight", 0.0)
    student = new_mixture(task.parts[0][0].shape[1:], task.block, weight)
    logger = callbacks.AttentionEntropyLogger()
    used = (
        []
        if task.temperature is None
        else [callbacks.AttentionTemperature(task.temperature)]
    )
    result = train(student, task, task.epochs, seed, *used, logger, **options)
    x, y = task.inputs(2), task.parts[2][1]
    column = None if task.columns is None else "pooled"
    overall = keras_dtkd.explain(
        task.teacher, student, (x, y), teacher_inputs=column, verbose=0
    ).overall
    attention = student.compute_attention()
    for level in student.attentions:
        level.attention_temperature.assign(1.0)
    tree = student.harden()
    result |= {
        "agreement": 100 * overall["agreement"],
        "correlation": overall["soft_label_correlation"],
        "entropy": [measure_entropy(level) for level in attention],
        "entropy at 1": [measure_entropy(a) for a in student.compute_attention()],
        "hardened": measure_accuracy(tree, task),
        "tree": train(tree, task, task.tree_epochs, seed, **options),
        "history": logger.history,
        "attention": [np.round(level, 4).tolist() for level in attention],
    }
    return result


# What resnet8 is trained with, and whether it has virtual attention.
POOLED = [("pooled", "pooled")]
CONVOLUTIONAL = {
    "cross-entropy": ({}, False),
    "cross-entropy, VAM": ({}, True),
    "KD": ({"kd": True}, False),
    "KD, VAM": ({"kd": True}, True),
    "KD + SP": ({"kd": True, "added": True}, False),
    "KD + SP, VAM": ({"kd": True, "added": True}, True),
}


def train_resnet(task, arm, seed):
    options, has_attention = CONVOLUTIONAL[arm]
    options = dict(options)
    if options.pop("added", False):
        options["added"] = [losses.SimilarityPreserving(POOLED, weight=3000)]
    keras.utils.set_random_seed(seed)
    student = models.get("resnet8", 10)
    if not has_attention:
        return train(student, task, task.epochs, seed, **options)
    # It begins as the same function as the plain network.
    student = layers.virtual_attention(student, blocks=4, entropy=0.01)
    result = train(student, task, task.epochs, seed, **options)
    attention = [
        layer.attention()
        for layer in student.layers
        if isinstance(layer, layers.VirtualAttentionConv2D)
    ]
    result["entropy"] = [measure_entropy(np.asarray(a)) for a in attention]
    result["folded"] = measure_accuracy(layers.fold(student), task)
    return result


# %%
import sys

SEEDS = range(2) if QUICK else range(5)
SETTINGS = [keras.config.backend(), keras.__version__, keras_dtkd.__version__]


def run(study, arm, seed):
    """Trains one student, unless that run is finished."""
    path = OUT / f"{NAME}_runs" / f"{study} {arm} {seed}.json"
    if not path.exists():
        keras.utils.clear_session()
        if study == "resnet8":
            result = train_resnet(TASKS["CIFAR-100"], arm, seed)
        else:
            result = train_mixture(TASKS[study], arm, seed)
        path.parent.mkdir(exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps([SETTINGS, result]), encoding="utf-8")
        os.replace(unfinished, path)
    settings, result = json.loads(path.read_text(encoding="utf-8"))
    if settings != SETTINGS:
        sys.exit(f"{path} has other settings. Remove it, or set KERAS_DTKD_OUT.")
    return result


TASKS = new_tasks()
ARMS = dict.fromkeys(TASKS, ["cross-entropy", "KD"] if QUICK else list(MIXTURES))
if "CIFAR-100" in TASKS:
    ARMS["resnet8"] = list(CONVOLUTIONAL)
else:
    print("CIFAR-100 is left out: set KERAS_DTKD_CIFAR100 and KERAS_DTKD_RESNET32X4.")
keys = [(study, arm, seed) for study in ARMS for seed in SEEDS for arm in ARMS[study]]
progress = keras.utils.Progbar(len(keys), unit_name="run")
runs = {}
for key in keys:
    runs[key] = run(*key)
    progress.add(1)

# %% [markdown]
# ## The tables
# Mean ± standard deviation over the seeds, of test images. Agreement is with the
# teacher; the correlation, of both models' soft labels over the wrong classes. Then the
# accuracy of the hardened mixture, before and after this tree was trained on; the
# entropies of the three attentions at temperature 1, from 0 to 1; and their mean at the
# temperature that training ended with.


# %%
# What a run's result has, and digits to print.
ACCURACIES = {"accuracy": (("last",), 1), "best epoch": (("best",), 1)}
MEASURES = {
    **ACCURACIES,
    "agreement": (("agreement",), 1),
    "correlation": (("correlation",), 2),
    "hardened": (("hardened",), 1),
    "tree": (("tree", "last"), 1),
    "entropy 1 to 2": (("entropy at 1", 0), 2),
    "2 to 3": (("entropy at 1", 1), 2),
    "3 to classes": (("entropy at 1", 2), 2),
    "entropy at the end": (("entropy",), 2),
}
RESNET_MEASURES = {
    **ACCURACIES,
    "folded": (("folded",), 1),
    "entropy": (("entropy",), 3),
}


def collect(study, arm, path):
    """A value of each seed; the mean of one that is a list."""
    values = []
    for seed in SEEDS:
        value = runs[study, arm, seed]
        for step in path:
            value = value[step]
        values.append(np.mean(value))
    return np.array(values)


def table_rows(study):
    measures = RESNET_MEASURES if study == "resnet8" else MEASURES
    yield study, *measures
    yield ("---",) * (1 + len(measures))
    for arm in ARMS[study]:
        row = []
        for path, digits in measures.values():
            if path[0] in runs[study, arm, 0]:
                values = collect(study, arm, path)
                row.append(
                    f"{values.mean():.{digits}f} ± {values.std(ddof=1):.{digits}f}"
                )
            else:
                row.append("")
        yield arm, *row


# %% [markdown]
# ## The claims
# Differences of students with the same seed, with confidence intervals of 95 % by
# Student's t. A claim counts as reproduced where the interval lies on its side of 0.

# %%
from scipy import stats

# What is compared, its claimed sign, and two arms; of mixtures and of resnet8.
CLAIMS = {
    "KD concentrates the attention": (("entropy",), -1, "KD", "cross-entropy"),
    "the same, at temperature 1": (("entropy at 1",), -1, "KD", "cross-entropy"),
    "KD is more accurate": (("last",), 1, "KD", "cross-entropy"),
    "KD is more than label smoothing": (("last",), 1, "KD", "label smoothing"),
    "label smoothing can hurt": (("last",), -1, "label smoothing", "cross-entropy"),
    "H concentrates the attention": (("entropy",), -1, "KD + 0.01 H", "KD"),
    "H helps KD": (("last",), 1, "KD + 0.01 H", "KD"),
    "control: H without KD": (
        *(("last",), 1, "cross-entropy + 0.01 H", "cross-entropy"),
    ),
    "VAM helps without KD": (("last",), 1, "cross-entropy, VAM", "cross-entropy"),
    "VAM helps KD": (("last",), 1, "KD, VAM", "KD"),
    "VAM helps KD + SP": (("last",), 1, "KD + SP, VAM", "KD + SP"),
}


def claim_rows():
    yield "claim", "on", "measured", "difference", "verdict"
    yield ("---",) * 5
    for claim, (path, sign, arm, control) in CLAIMS.items():
        for study, arms in ARMS.items():
            if (
                arm not in arms
                or control not in arms
                or ("VAM" in claim) != (study == "resnet8")
            ):
                continue
            values = collect(study, arm, path) - collect(study, control, path)
            half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
            measure, digits = ("accuracy", 1) if path == ("last",) else (path[0], 3)
            yield (
                claim,
                study,
                f"{arm} − {control}, {measure}",
                f"{values.mean():+.{digits}f} ± {half:.{digits}f}",
                "reproduced" if sign * values.mean() > half else "not reproduced",
            )
    yield (
        "the published margins",
        *("full data sets, ResNet50, ShuffleNet", "", "", "not testable here"),
    )


smoke = "SMOKE RUN: the figures are meaningless. " if QUICK else ""
heading = f"{smoke}{len(SEEDS)} seeds. {keras.config.backend()}.\n"
tables = [*(table_rows(study) for study in ARMS), claim_rows()]
text = "\n".join(
    [heading, *("\n".join([*(f"| {' | '.join(r)} |" for r in t), ""]) for t in tables)]
)
print(f"\n{text}")
(OUT / f"{NAME}.md").write_text(text, encoding="utf-8")

# %% [markdown]
# ## The pictures
# The blocks that classes use after training with labels alone, and with KD; and the
# entropy in the course of the training.

# %%
study = list(TASKS)[-1]
shown = ["cross-entropy", "KD"]
trees = [[np.array(a) for a in runs[study, arm, 0]["attention"]] for arm in shown]
names = CLASSES if study == "CIFAR-100" else range(10)
plots.mixture_tree(*trees, names, titles=shown).savefig(
    OUT / f"{NAME}_tree.png", dpi=150
)
histories = {arm: runs[study, arm, 0]["history"] for arm in shown}
plots.attention_entropy(histories).savefig(OUT / f"{NAME}_entropy.png", dpi=150)
print(f"Saved tables, pictures and runs to {OUT / NAME}.md, _tree.png, ....")
