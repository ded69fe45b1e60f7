"""Distil a detector: features of pyramids, and adversarial ones

A RetinaNet finds three kinds of blood cells in the photographs of BCCD; another with a
quarter of its width is trained from it. The lesson compares losses on the levels of
their feature pyramids (FeatureMSE; FGD, Yang et al., arXiv 2111.11837; MGD, Yang et
al., arXiv 2205.01529), and the two parts of Inconsistent Knowledge Distillation (IKD,
Liang et al., arXiv 2209.09841): features of adversarial images (AFA) and augmentation
by the size of the objects (SDA). AFA has two controls: random noise of the same size,
and the images themselves. It prints a table over five seeds with confidence intervals,
and draws two pictures.

The data is in `bccd.npz`, or a clone of github.com/Shenggan/BCCD_Dataset, whose path
is `KERAS_DTKD_BCCD`; without it, it is downloaded. A run takes minutes on a processor
core, all of them two hours; with `KERAS_DTKD_QUICK=1`, a smoke run, a few minutes. If
it is interrupted, the same command resumes it. Files go to the current folder, or to
`KERAS_DTKD_OUT`.
"""

# %%
import dataclasses
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import keras_hub
import numpy as np
from keras import layers

from keras_dtkd import Distiller, attacks, callbacks, datasets, losses, plots, views
from keras_dtkd.datasets.detection import DetectionDataset, SampleSpecificAugmentation
from keras_dtkd.metrics import coco_ap

QUICK = os.environ.get("KERAS_DTKD_QUICK") == "1"
SIZE = (64, 64) if QUICK else (128, 160)
TEACHER_EPOCHS, EPOCHS = (2, 2) if QUICK else (60, 24)
BATCH_SIZE = 4 if QUICK else 8

# %% [markdown]
# ## The data
# 205 photographs to train on, 87 for validation, 72 to test.

# %%
data = datasets.bccd(os.environ.get("KERAS_DTKD_BCCD"), SIZE)
train, validation, test = data.train, data.validation, data.test
if QUICK:
    train, validation, test = (
        dataclasses.replace(
            part,
            images=part.images[:8],
            labels={key: values[:8] for key, values in part.labels.items()},
            scales=part.scales[:8],
            names=part.names[:8],
        )
        for part in (train, validation, test)
    )

# %% [markdown]
# ## The detectors
# KerasHub's RetinaNet on a small backbone: four stages, and a pyramid of three levels.


# %%
@keras.saving.register_keras_serializable("small_detector")
class SmallPyramid(keras_hub.models.Backbone):
    """Feature maps of an eighth, a sixteenth and a 32nd of the image's size."""

    def __init__(self, width, image_shape, dtype=None, **kwargs):
        def convolve(x, filters, strides=1):
            x = layers.Conv2D(filters, 3, strides, "same", use_bias=False)(x)
            return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))

        images = keras.Input(image_shape)
        x, maps = convolve(images, width, 2), []
        for filters in (2 * width, 4 * width, 8 * width, 8 * width):
            x = convolve(convolve(x, filters, 2), filters)
            maps.append(x)
        outputs, above = {}, None
        for level in (5, 4, 3):
            x = layers.Conv2D(4 * width, 1)(maps[level - 2])
            if above is not None:
                x = layers.Add()([x, layers.UpSampling2D()(above)])
            name, above = f"P{level}", x
            outputs[name] = layers.Conv2D(4 * width, 3, padding="same", name=name)(x)
        outputs = {name: outputs[name] for name in ("P3", "P4", "P5")}
        super().__init__(images, outputs, dtype=dtype, **kwargs)
        self.width, self.image_shape = width, image_shape
        self.min_level, self.max_level = 3, 5

    def get_config(self):
        shape = {"width": self.width, "image_shape": self.image_shape}
        return {**super().get_config(), **shape}


def new_detector(width, epochs, learning_rate):
    # A cell of the smallest kind is eight pixels wide.
    anchors = keras_hub.layers.AnchorGenerator(
        "yxyx", 3, 5, num_scales=3, aspect_ratios=[0.5, 1.0, 2.0], anchor_size=2.0
    )
    detector = keras_hub.models.RetinaNetObjectDetector(
        SmallPyramid(width, (*SIZE, 3)),
        num_classes=len(data.class_names),
        anchor_generator=anchors,
        pre_logits_num_conv_layers=1,
        prediction_decoder=keras_hub.layers.NonMaxSuppression(
            "yxyx",
            from_logits=True,
            confidence_threshold=0.05,
            max_detections=5 if QUICK else 100,
        ),
    )
    steps = epochs * (len(train) // BATCH_SIZE)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps, warmup_target=learning_rate, warmup_steps=steps // 20
    )
    optimizer = keras.optimizers.AdamW(schedule, global_clipnorm=1.0)
    # On a processor, TensorFlow's own kernels are faster than XLA's.
    detector.compile(optimizer=optimizer, jit_compile=False)
    return detector


# %% [markdown]
# ## Batches
# Order and augmentation of a seed and an epoch are the same for all methods.


# %%
def fit(model, first_epoch, epochs, seed, column=None, augment=None, **options):
    """Trains a Distiller, or a detector alone."""
    columns = {"view": COLUMNS[column]} if column else None
    kwargs = {"columns": columns, "augment": augment, "drop_remainder": True}
    batches = DetectionDataset(
        train, batch_size=BATCH_SIZE, seed=seed, first_epoch=first_epoch, **kwargs
    )
    if not isinstance(model, Distiller):
        batches = batches.to_tf_dataset()
    kwargs = {"initial_epoch": first_epoch, "epochs": epochs, "verbose": 0, **options}
    model.fit(batches, shuffle=False, **kwargs)


# %% [markdown]
# ## The teacher
# Trained once, and saved. At the students' learning rate of 0.005, without a warm-up,
# one ended with outputs that were constant.

# %%
from pathlib import Path

OUT = Path(os.environ.get("KERAS_DTKD_OUT", "."))
OUT.mkdir(parents=True, exist_ok=True)
NAME = "small_detector_quick" if QUICK else "small_detector"
path = OUT / f"{NAME}_teacher.keras"
if not path.exists():
    print("Training the teacher ...", flush=True)
    keras.utils.set_random_seed(0)
    teacher = new_detector(32, TEACHER_EPOCHS, 0.002)
    fit(teacher, 0, TEACHER_EPOCHS, seed=0)
    unfinished = OUT / f"{NAME}_unfinished.keras"
    teacher.save(unfinished)
    os.replace(unfinished, path)
teacher = keras.models.load_model(path)

# %% [markdown]
# ## Distillation
# The labels teach by the student's own loss. Each level of its pyramid is compared with
# the teacher's; a projector for each is trained with the student, since their widths
# differ. `keras_dtkd.features(student, train.images[:1])` lists the names.

# %%
LEVELS = ["P3", "P4", "P5"]
keras.utils.set_random_seed(0)
student = new_detector(8, EPOCHS, 0.005)
distiller = Distiller(teacher, student, losses.FGD(LEVELS))
distiller.fit(
    train.images,
    train.labels,
    batch_size=BATCH_SIZE,
    epochs=EPOCHS,
    callbacks=[callbacks.CocoAP(validation, frequency=EPOCHS // 2)],
    verbose=2,
)

# %% [markdown]
# ## Adversarial images
# Made once from the teacher, and kept with the data: the teacher's loss on the labels
# is increased, by at most 8 of 255 steps for each pixel, as published. The controls of
# AFA use noise of that size in place of it, or the images themselves.

# %%
EPSILON = 8 / 255
adversarial = attacks.store(
    *(teacher, train.images, train.labels, OUT / f"{NAME}_adversarial", EPSILON),
    steps=5,
    step_size=2 / 255,
    seed=0,
)
signs = np.random.default_rng(0).choice([-1, 1], train.images.shape)
noisy = np.clip(train.images + EPSILON * signs, 0, 1).astype("float32")
COLUMNS = {"adversarial": adversarial, "noise": noisy, "clean": train.images}

# %% [markdown]
# ## The methods
# The weights were chosen for `FeatureMSE`, `FGD` and `MGD` on the validation images, of
# a tenth, one and ten, in 15 epochs with a seed that is not among those of the table.
# AFA has the weight of the loss that it is added to. AFA and SDA are used in the first
# two thirds of the epochs, as published; after that, the base loss alone.

# %%
WEIGHTS = {"FeatureMSE": 1.0, "FGD": 0.1, "MGD": 1.0}

# The loss (`None`: the student alone), what AFA sees, and whether SDA is used.
METHODS = {
    "student alone": (None, None, False),
    "student alone, SDA": (None, None, True),
    "FGD": ("FGD", None, False),
    "MGD": ("MGD", None, False),
    "FeatureMSE": ("FeatureMSE", None, False),
    "+ AFA": ("FeatureMSE", "adversarial", False),
    "+ AFA on noise": ("FeatureMSE", "noise", False),
    "+ AFA on the images": ("FeatureMSE", "clean", False),
    "+ SDA": ("FeatureMSE", None, True),
    "+ AFA + SDA": ("FeatureMSE", "adversarial", True),
}
CONTROLS = {
    "student alone, SDA": "student alone",
    **dict.fromkeys(["FGD", "MGD", "FeatureMSE"], "student alone"),
    **dict.fromkeys(["+ AFA on noise", "+ AFA on the images", "+ SDA"], "FeatureMSE"),
    "+ AFA": "+ AFA on the images",
    "+ AFA + SDA": "+ SDA",
}


class BestWeights(keras.callbacks.Callback):
    """Keeps the student's weights of the epoch with the best validation AP."""

    def __init__(self, student):
        super().__init__()
        self.student, self.ap, self.epoch, self.weights = student, -1.0, 0, None

    def on_epoch_end(self, epoch, logs=None):
        if logs.get("val_ap", -1.0) > self.ap:
            self.ap, self.epoch = logs["val_ap"], epoch + 1
            self.weights = self.student.get_weights()


def train_student(name, seed):
    """Test AP, in %, at the last epoch and at the best on validation images."""
    loss, column, uses_sda = METHODS[name]
    keras.utils.set_random_seed(seed)
    model = student = new_detector(8, EPOCHS, 0.005)
    if loss is not None:
        used, seen = {"base": getattr(losses, loss)(LEVELS, weight=WEIGHTS[loss])}, []
        if column is not None:
            used["afa"] = losses.AdversarialFeatures(LEVELS, weight=WEIGHTS[loss])
            seen = [views.Stored("view", name="adversarial")]
        model = Distiller(teacher, student, used, views=seen)
    best = BestWeights(student)
    ap = callbacks.CocoAP(validation, frequency=max(EPOCHS // 6, 1))
    options = {"seed": seed, "column": column, "callbacks": [ap, best]}
    augment = SampleSpecificAugmentation() if uses_sda else None
    fit(model, 0, 2 * EPOCHS // 3, augment=augment, **options)
    if column is not None:
        model.distillation_losses["afa"].weight = 0.0
    fit(model, 2 * EPOCHS // 3, EPOCHS, **options)
    last = evaluate(student)
    student.set_weights(best.weights)
    return {"last": last, "best": evaluate(student), "best_epoch": best.epoch}


def evaluate(detector):
    predictions = detector.predict(test.images, batch_size=BATCH_SIZE, verbose=0)
    ap = coco_ap(predictions, test.labels)
    return {name: round(100 * ap[name], 2) for name in ("ap", "ap50", "ap75")}


# %% [markdown]
# ## The runs
# Each finished run is a file, so that nothing is trained twice. Runs with other
# settings are not comparable.

# %%
import json
import sys

import keras_dtkd

SEEDS = range(2) if QUICK else range(5)
SELECTED = ["student alone", "FeatureMSE", "+ AFA + SDA"] if QUICK else list(METHODS)
SETTINGS = {
    "backend": keras.config.backend(),
    "keras": keras.__version__,
    "keras_dtkd": keras_dtkd.__version__,
    "teacher": keras_dtkd.teachers.model_fingerprint(teacher),
    "size": list(SIZE),
    "epochs": EPOCHS,
}


def run(name, seed):
    """Trains one student, unless that run is finished."""
    path = OUT / f"{NAME}_runs" / f"{name} {seed}.json"
    settings = {**SETTINGS, "weight": WEIGHTS.get(METHODS[name][0])}
    if not path.exists():
        # Frees the memory of compiled functions.
        keras.utils.clear_session()
        result = {"settings": settings, **train_student(name, seed)}
        path.parent.mkdir(exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(result), encoding="utf-8")
        os.replace(unfinished, path)
    result = json.loads(path.read_text(encoding="utf-8"))
    if result["settings"] != settings:
        sys.exit(f"{path} has other settings. Remove it, or set KERAS_DTKD_OUT.")
    return result


progress = keras.utils.Progbar(len(SEEDS) * len(SELECTED), unit_name="run")
runs = {}
for seed in SEEDS:
    for name in SELECTED:
        runs[name, seed] = run(name, seed)
        progress.add(1)

# %% [markdown]
# ## The table
# Differences are paired: of students with the same seed. Intervals are of 95 %, by
# Student's t.

# %%
from scipy import stats


def collect(name, epoch, metric):
    return np.array([runs[name, seed][epoch][metric] for seed in SEEDS])


def compare(ap, control):
    """The mean difference, with half of its confidence interval."""
    if control not in SELECTED:
        return ""
    values = ap - collect(control, "last", "ap")
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return f"{values.mean():+.1f} ± {half:.1f}"


def describe(values):
    return f"{values.mean():.1f} ± {values.std(ddof=1):.1f}"


def table_rows():
    yield "method", "AP", "AP50", "AP, best epoch", "AP − control", "control"
    yield ("---",) * 6
    of_teacher = evaluate(teacher)
    yield "teacher", f"{of_teacher['ap']:.1f}", f"{of_teacher['ap50']:.1f}", *[""] * 3
    for name in SELECTED:
        control = CONTROLS.get(name)
        ap = collect(name, "last", "ap")
        yield (
            name,
            describe(ap),
            describe(collect(name, "last", "ap50")),
            describe(collect(name, "best", "ap")),
            compare(ap, control),
            control or "",
        )


smoke = "SMOKE RUN: the figures are meaningless. " if QUICK else ""
heading = (
    f"{smoke}Test AP in %, {len(SEEDS)} seeds, mean ± std; differences with confidence "
    f"intervals of 95 %. {keras.config.backend()}.\n"
)
text = "\n".join([heading, *(f"| {' | '.join(row)} |" for row in table_rows()), ""])
print(f"\n{text}")
(OUT / f"{NAME}.md").write_text(text, encoding="utf-8")

# %%
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
for row, name in enumerate(SELECTED):
    values = collect(name, "last", "ap")
    axes.errorbar(values.mean(), row, xerr=values.std(ddof=1), fmt="|", color="#2a6f97")
    axes.plot(values, np.full(len(values), row), "o", ms=4, color="#2a6f97", alpha=0.6)
axes.set(
    title=f"{smoke[:11]}Test AP, %: {len(SEEDS)} seeds, mean ± std",
    yticks=range(len(SELECTED)),
    yticklabels=SELECTED,
    ylim=(len(SELECTED) - 0.5, -0.5),
)
axes.spines[["top", "right"]].set_visible(False)
figure.savefig(OUT / f"{NAME}.png", dpi=150)

# %% [markdown]
# ## The boxes
# Of the student that was distilled above, and of its teacher.

# %%
few = slice(2)


def predict_few(detector):
    # On TensorFlow, KerasHub's detectors predict full batches of one size only.
    images = test.images[:BATCH_SIZE]
    predictions = detector.predict(images, batch_size=BATCH_SIZE, verbose=0)
    return {key: values[few] for key, values in predictions.items()}


figure = plots.detections(
    test.images[few],
    predict_few(teacher),
    predict_few(student),
    {key: values[few] for key, values in test.labels.items()},
    class_names=data.class_names,
)
figure.savefig(OUT / f"{NAME}_boxes.png", dpi=150)
print(f"Saved table, pictures and runs to {OUT / NAME}.md, .png, _boxes.png and _runs.")
