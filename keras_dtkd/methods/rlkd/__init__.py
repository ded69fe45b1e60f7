"""A temperature chosen by reinforcement learning (RLKD)."""

from keras_dtkd.methods.rlkd.policy import Policy as Policy
