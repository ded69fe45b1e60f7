"""Several processes: their ranks, and the samples of each."""

from keras_dtkd.distribution.sharding import rank as rank
from keras_dtkd.distribution.sharding import shard as shard
from keras_dtkd.distribution.sharding import world_size as world_size
