"""Pure functions on tensors: divergences, correlations and statistics of logits."""

from keras_dtkd.functional import chunked as chunked
from keras_dtkd.functional import correlation as correlation
from keras_dtkd.functional import decoupled as decoupled
from keras_dtkd.functional import divergences as divergences
from keras_dtkd.functional import labels as labels
from keras_dtkd.functional import norms as norms
from keras_dtkd.functional import ranking as ranking
from keras_dtkd.functional import statistics as statistics
from keras_dtkd.functional.chunked import chunked_cross_entropy as chunked_cross_entropy
from keras_dtkd.functional.chunked import chunked_divergence as chunked_divergence
