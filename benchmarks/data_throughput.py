"""Images per second of the data pipelines and of a training step.

    KERAS_BACKEND=jax python benchmarks/data_throughput.py --data-dir DIR

CIFAR-100 in batches of 64: `datasets.cifar100`, with and without augmentation; other
implementations of the augmentation; and `fit` of a resnet8 from `datasets.cifar100` and
from prepared arrays. All run in this process, in turns. DIR is a folder of TensorFlow
Datasets, by default its own. benchmarks/README.md explains processor time.
"""

import argparse
import itertools
import os
import sys
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from machine import environment_info, save
from report import median_and_quartiles
from step_time import BACKEND, Clock, compiled, now

from keras_dtkd import models
from keras_dtkd.datasets import cifar100, load_arrays
from keras_dtkd.datasets.registry import NORMALIZATION

BATCH = 64
MEAN, STD = (
    np.array(NORMALIZATION["cifar100"][name], "float32") * 255
    for name in ("mean", "std")
)
TITLES = {
    "augmented": "`cifar100()`",
    "plain": "`cifar100(augment=False)`",
    "per image": "tf.data image by image, from TFRecord: decode, pad, crop, flip",
    "per image, in memory": "tf.data image by image, from memory",
    "keras layers": "`RandomCrop` and `RandomFlip` in tf.data, from memory",
    "step, arrays": "`fit` of a resnet8, from prepared arrays",
    "step, pipeline": "`fit` of a resnet8, from `cifar100()`",
}


class Pipeline:
    """Seconds per image of a dataset alone."""

    def __init__(self, dataset, images):
        self.dataset, self.batches = dataset, images // BATCH

    def __call__(self):
        iterator = iter(self.dataset)
        next(iterator)
        start = now()
        for _ in itertools.islice(iterator, self.batches):
            pass
        return (now() - start) / (self.batches * BATCH)


class Fit:
    """Seconds per image of a model's `fit`."""

    def __init__(self, steps, *data):
        self.model, self.steps, self.data = compiled(models.get("resnet8")), steps, data

    def __call__(self):
        clock, (x, *y) = Clock(), self.data
        size = {"batch_size": BATCH} if y else {"steps_per_epoch": self.steps}
        # The first epoch fills the pipelines; the second is measured.
        self.model.fit(x, *y, **size, epochs=2, verbose=0, callbacks=[clock])
        return (clock.ends[1] - clock.ends[0]) / (self.steps * BATCH)


def per_image(dataset):
    """Image by image, as in the guides of tf.data."""

    def augment(image, label):
        image = tf.pad(image, [[4, 4], [4, 4], [0, 0]])
        image = tf.image.random_crop(image, (32, 32, 3))
        image = tf.image.random_flip_left_right(image)
        return (tf.cast(image, tf.float32) - MEAN) / STD, label

    dataset = dataset.repeat().shuffle(10_000).map(augment, tf.data.AUTOTUNE)
    return dataset.batch(BATCH).prefetch(tf.data.AUTOTUNE)


def keras_layers(dataset):
    """Keras layers, on whole batches."""
    layers = [
        keras.layers.RandomCrop(32, 32, data_format="channels_last"),
        keras.layers.RandomFlip("horizontal", data_format="channels_last"),
    ]

    def augment(images, labels):
        images = tf.pad(images, [[0, 0], [4, 4], [4, 4], [0, 0]])
        for layer in layers:
            images = layer(images, training=True)
        return (images - MEAN) / STD, labels

    dataset = dataset.repeat().shuffle(10_000).batch(BATCH)
    return dataset.map(augment, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def build_variants(data_dir, steps):
    """Functions that measure seconds per image, by name."""
    train, _ = cifar100(BATCH, data_dir=data_dir, seed=0)
    plain, _ = cifar100(BATCH, augment=False, data_dir=data_dir, seed=0)
    (x, y), _ = load_arrays("cifar100", data_dir)
    prepared = ((x[: steps * BATCH] - MEAN) / STD, y[: steps * BATCH])
    with tf.device("CPU"):
        memory = tf.data.Dataset.from_tensor_slices((x, y))
    records = tfds.load(
        "cifar100", data_dir=data_dir, split="train", as_supervised=True
    )
    return {
        "augmented": Pipeline(train, 45_000),
        "plain": Pipeline(plain, 45_000),
        "per image": Pipeline(per_image(records), 10_000),
        "per image, in memory": Pipeline(per_image(memory), 10_000),
        "keras layers": Pipeline(keras_layers(memory), 10_000),
        "step, arrays": Fit(steps, *prepared),
        "step, pipeline": Fit(steps, train),
    }


def measure(variants, rounds):
    """Seconds, and of processor time, per image, of each variant and round."""
    for function in variants.values():
        function()
    seconds = {name: [] for name in variants}
    for i in range(rounds):
        names = list(variants)
        names = names[i % len(names) :] + names[: i % len(names)]
        for name in names:
            seconds[name].append(variants[name]())
        print(f"round {i + 1} of {rounds}", file=sys.stderr)
    return [
        {name: [float(both[i]) for both in rounds] for name, rounds in seconds.items()}
        for i in range(2)
    ]


def table(seconds, cpu_seconds):
    """Markdown: images per second, and their ratio to those of a training step."""
    lines = [
        "| | images per second | of processor time | ÷ training step |",
        "|---|---|---|---|",
    ]
    for name in (name for name in TITLES if name in seconds):
        rates = [
            f"{1 / median_and_quartiles(s[name])[0]:,.0f}"
            for s in (seconds, cpu_seconds)
        ]
        pairs = zip(seconds["step, arrays"], seconds[name], strict=True)
        ratio = median_and_quartiles([step / variant for step, variant in pairs])[0]
        lines.append(f"| {TITLES[name]} | {' | '.join(rates)} | {ratio:.2f} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="folder of TensorFlow Datasets")
    parser.add_argument(
        "--steps", type=int, default=20, help="steps of an epoch of `fit`"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="the JSON file")
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)

    result = {**environment_info(), "batch": BATCH}
    result["versions"]["tensorflow"] = tf.__version__
    start = time.perf_counter()
    load_arrays("cifar100", arguments.data_dir)
    result["seconds_to_read"] = time.perf_counter() - start
    variants = build_variants(arguments.data_dir, arguments.steps)
    result["seconds"], result["cpu_seconds"] = measure(variants, arguments.rounds)
    result["load_after"] = os.getloadavg()[0]

    save(result, "data_throughput", arguments.output)
    versions = result["versions"]
    print(
        f"{BACKEND} {versions[BACKEND]}, Keras {versions['keras']}, {result['device']} "
        f"({result['cpu']}, {result['cores']} cores, load {result['load']:.1f} to "
        f"{result['load_after']:.1f}); medians of {arguments.rounds} rounds. "
        f"Reading all of CIFAR-100 took {result['seconds_to_read']:.1f} s.\n"
    )
    print(table(result["seconds"], result["cpu_seconds"]))


if __name__ == "__main__":
    main()
