"""Image data sets as batches for `fit` on every backend, and as plain arrays.

Also columns of the data that losses read in addition to the inputs, such as scores.
"""

from keras_dtkd.core.columns import with_columns as with_columns
from keras_dtkd.datasets import detection as detection
from keras_dtkd.datasets.arrays import load_arrays as load_arrays
from keras_dtkd.datasets.detection.bccd import bccd as bccd
from keras_dtkd.datasets.detection.coco import coco as coco
from keras_dtkd.datasets.folder import image_folder as image_folder
from keras_dtkd.datasets.pipeline import from_arrays as from_arrays
from keras_dtkd.datasets.privacy import privacy_scores as privacy_scores
from keras_dtkd.datasets.registry import cifar10 as cifar10
from keras_dtkd.datasets.registry import cifar100 as cifar100
from keras_dtkd.datasets.registry import digits as digits
from keras_dtkd.datasets.registry import fashion_mnist as fashion_mnist
