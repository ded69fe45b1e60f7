"""Whole training procedures of one paper."""

from keras_dtkd.methods import ikd as ikd
from keras_dtkd.methods import rlkd as rlkd
