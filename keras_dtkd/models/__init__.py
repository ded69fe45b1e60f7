"""The CIFAR networks of the distillation literature, and weights for them."""

from keras_dtkd.models.registry import NAMES as NAMES
from keras_dtkd.models.registry import get as get
from keras_dtkd.models.weights import load_flat as load_flat
from keras_dtkd.models.weights import load_torch as load_torch
