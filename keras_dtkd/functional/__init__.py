"""Pure functions on tensors: divergences and statistics of logits."""

from keras_dtkd.functional import divergences as divergences
from keras_dtkd.functional import statistics as statistics
