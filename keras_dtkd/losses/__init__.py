"""What is matched: one loss a file."""

from keras_dtkd.losses.base import DistillationLoss as DistillationLoss
from keras_dtkd.losses.dtkd import DTKD as DTKD
from keras_dtkd.losses.kd import KD as KD
