"""The papers' hyper-parameters, as data, and what is built from them."""

from keras_dtkd.recipes.coupled_sgd import CoupledSGD as CoupledSGD
from keras_dtkd.recipes.lookup import control as control
from keras_dtkd.recipes.lookup import get as get
from keras_dtkd.recipes.lookup import methods as methods
from keras_dtkd.recipes.lookup import pairs as pairs
from keras_dtkd.recipes.recipe import Recipe as Recipe
