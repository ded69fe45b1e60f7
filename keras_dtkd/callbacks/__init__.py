"""What happens between steps."""

from keras_dtkd.callbacks.schedule import Schedule as Schedule
