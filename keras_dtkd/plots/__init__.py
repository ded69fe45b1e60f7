"""Plots of a distillation, each a matplotlib figure.

They require matplotlib: `pip install matplotlib`. No window is opened and no global
state is changed: save a figure with `figure.savefig("figure.png")`, or let a notebook
display it as the last value of a cell.
"""

from keras_dtkd.plots.attention_entropy import attention_entropy as attention_entropy
from keras_dtkd.plots.calibration import calibration as calibration
from keras_dtkd.plots.detections import detections as detections
from keras_dtkd.plots.explanation import explanation as explanation
from keras_dtkd.plots.mixture_tree import mixture_tree as mixture_tree
from keras_dtkd.plots.soft_labels import soft_labels as soft_labels
from keras_dtkd.plots.temperatures import temperatures as temperatures
from keras_dtkd.plots.training_curves import training_curves as training_curves
