"""Knowledge distillation for Keras 3, with a temperature for each sample."""

from keras_dtkd import attacks as attacks
from keras_dtkd import backend as backend
from keras_dtkd import callbacks as callbacks
from keras_dtkd import datasets as datasets
from keras_dtkd import distribution as distribution
from keras_dtkd import functional as functional
from keras_dtkd import losses as losses
from keras_dtkd import methods as methods
from keras_dtkd import metrics as metrics
from keras_dtkd import models as models
from keras_dtkd import plots as plots
from keras_dtkd import recipes as recipes
from keras_dtkd import teachers as teachers
from keras_dtkd import temperatures as temperatures
from keras_dtkd import views as views
from keras_dtkd._version import __version__ as __version__
from keras_dtkd.core import logits as logits
from keras_dtkd.diagnostics import diagnose as diagnose
from keras_dtkd.distiller import Distiller as Distiller
from keras_dtkd.losses.output_bias import (
    calibrate_output_bias as calibrate_output_bias,
)
from keras_dtkd.methods.ikd import InteractiveDistiller as InteractiveDistiller
from keras_dtkd.training.step import Step as Step
