"""A teacher that learns from its student."""

from keras_dtkd.methods.ikd.dual_optimizer import DualOptimizer as DualOptimizer
from keras_dtkd.methods.ikd.interactive_distiller import (
    InteractiveDistiller as InteractiveDistiller,
)
