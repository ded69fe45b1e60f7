"""Callbacks for `fit`."""

from keras_dtkd.callbacks.attention_entropy_logger import (
    AttentionEntropyLogger as AttentionEntropyLogger,
)
from keras_dtkd.callbacks.attention_temperature import (
    AttentionTemperature as AttentionTemperature,
)
from keras_dtkd.callbacks.coco_ap import CocoAP as CocoAP
from keras_dtkd.callbacks.hyperparameter_schedule import (
    HyperparameterSchedule as HyperparameterSchedule,
)
from keras_dtkd.callbacks.resume import Resume as Resume
from keras_dtkd.callbacks.robust_accuracy import RobustAccuracy as RobustAccuracy
from keras_dtkd.callbacks.student_checkpoint import (
    StudentCheckpoint as StudentCheckpoint,
)
