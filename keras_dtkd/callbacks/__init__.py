"""What happens between steps."""

from keras_dtkd.callbacks.resume import Resume as Resume
from keras_dtkd.callbacks.robust_accuracy import RobustAccuracy as RobustAccuracy
from keras_dtkd.callbacks.schedule import Schedule as Schedule
