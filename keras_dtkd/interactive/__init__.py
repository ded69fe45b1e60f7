"""A teacher that learns from its student."""

from keras_dtkd.interactive.distiller import (
    InteractiveDistiller as InteractiveDistiller,
)
from keras_dtkd.interactive.two_optimizers import TwoOptimizers as TwoOptimizers
