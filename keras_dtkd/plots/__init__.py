"""Pictures of a distillation, each a matplotlib figure.

They need matplotlib: `pip install matplotlib`. Nothing is shown and no global
state is touched: save a figure with `figure.savefig("picture.png")`, or let a notebook
show it as the last value of a cell.
"""

from keras_dtkd.plots.calibration import calibration as calibration
from keras_dtkd.plots.soft_labels import soft_labels as soft_labels
from keras_dtkd.plots.temperatures import temperatures as temperatures
from keras_dtkd.plots.training_curves import training_curves as training_curves
