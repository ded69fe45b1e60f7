"""Samples that are taken out of the training data for parts that need them."""

import dataclasses
import math
from typing import Any

import numpy as np

from keras_dtkd.core import arrays
from keras_dtkd.teachers.sample_ids import model_inputs


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """The data of a `fit`, as it was given."""

    x: Any
    y: Any
    batch_size: Any = None


def holdout_indices(count, share):
    """Indices of the held-out samples, ascending, the same in every run.

    They are drawn at random, since data may be sorted by class. At least one.
    """
    held_out = max(1, round(share * count))
    return np.sort(np.random.default_rng(0).choice(count, held_out, replace=False))


def cut_holdout(data, share, kwargs):
    """Takes a share of the samples out of `TrainingData` of arrays.

    In `kwargs`, the other arguments of `fit`, `sample_weight` is cut too, and
    `validation_split` keeps its samples. Returns `(x, y, held_out)`: what is left to
    train on, and `(x, y)` held out. Raises `ValueError` if that is less than a batch.
    """
    x, y = data.x, data.y
    count = arrays.num_samples(x)
    split = kwargs.get("validation_split") or 0.0
    # Keras validates on the last samples: these are not for training either.
    training = math.floor(count * (1.0 - split))
    indices = holdout_indices(training, share)
    left = np.delete(np.arange(count), indices)
    trained = training - len(indices)
    # Of little data all that there is may be less than a batch.
    if trained < min(data.batch_size or 32, len(indices)):
        raise ValueError(
            f"`Distiller.fit`: holdout={share} leaves {trained} of {training} samples "
            "to train on. Hold out a smaller share, or give `holdout=(x, y)`."
        )
    if split:
        # The same samples as without a holdout. Keras rounds down.
        kwargs["validation_split"] = 1.0 - (trained + 0.5) / len(left)
    if kwargs.get("sample_weight") is not None:
        kwargs["sample_weight"] = arrays.take_rows(kwargs["sample_weight"], left)
    held_out = model_inputs(arrays.take_rows(x, indices)), arrays.take_rows(y, indices)
    return arrays.take_rows(x, left), arrays.take_rows(y, left), held_out
