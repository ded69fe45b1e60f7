"""Temperatures of the soft targets, one per file."""

from keras_dtkd.temperatures.base import Temperature as Temperature
from keras_dtkd.temperatures.base import TemperaturePair as TemperaturePair
from keras_dtkd.temperatures.base import get as get
from keras_dtkd.temperatures.constant import Constant as Constant
from keras_dtkd.temperatures.cosine_similarity import (
    CosineSimilarity as CosineSimilarity,
)
from keras_dtkd.temperatures.curriculum import Curriculum as Curriculum
from keras_dtkd.temperatures.dynamic import Dynamic as Dynamic
from keras_dtkd.temperatures.scheduled import Scheduled as Scheduled
from keras_dtkd.temperatures.standardized import Standardized as Standardized
