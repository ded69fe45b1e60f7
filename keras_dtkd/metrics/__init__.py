"""Metrics of how far the student follows the teacher."""

from keras_dtkd.metrics.agreement import Agreement as Agreement
