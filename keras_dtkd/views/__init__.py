"""On which views of a batch a loss compares the models."""

from keras_dtkd.views.base import View as View
from keras_dtkd.views.cutmix import CutMix as CutMix
from keras_dtkd.views.cutout import Cutout as Cutout
from keras_dtkd.views.mixup import Mixup as Mixup
from keras_dtkd.views.stored import Stored as Stored
