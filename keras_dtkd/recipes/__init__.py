"""The papers' hyperparameters as data, and the objects built from them."""

from keras_dtkd.recipes.compare import compare as compare
from keras_dtkd.recipes.recipe import Recipe as Recipe
from keras_dtkd.recipes.registry import baseline_for as baseline_for
from keras_dtkd.recipes.registry import get as get
from keras_dtkd.recipes.registry import methods as methods
from keras_dtkd.recipes.registry import pairs as pairs
from keras_dtkd.recipes.sgd import TorchSGD as TorchSGD
