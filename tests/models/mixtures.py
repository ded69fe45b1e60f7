"""Small mixtures, and their attention by the formula."""

import keras
import numpy as np

from keras_dtkd import models
from tests import oracles
from tests.tensors import numpy
from tests.tiny_models import CLASSES, FEATURES

LEVELS = 2, 3


def mixture(heads=None, **options):
    """A mixture for `tiny_models.data`, with the same weights in every call."""
    keras.utils.set_random_seed(3)
    options = {"levels": LEVELS, "block": models.dense_block(6), **options}
    heads = heads or models.ClassHeads((5,), 0.0)
    return models.HierarchicalMixture(CLASSES, (FEATURES,), heads=heads, **options)


def attention_of(theta, temperature):
    """`softmax(log π / t)` with `π = softmax(θ / 0.5)`, float64."""
    log_pi = oracles.log_softmax(np.asarray(theta, "float64") / 0.5)
    return oracles.softmax(log_pi / temperature)


def entropy_of(attention):
    """The mean over rows of `−Σ d log d`, float64, with `0 log 0 = 0`."""
    d = np.asarray(attention, "float64")
    terms = np.where(d > 0, d * np.log(np.where(d > 0, d, 1.0)), 0.0)
    return -terms.sum(-1).mean()


def thetas(model):
    return [numpy(attention.theta) for attention in model.attentions]
