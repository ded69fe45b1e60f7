"""Students made from their teachers."""

from keras_dtkd.students.from_layers import from_layers as from_layers
