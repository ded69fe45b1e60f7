"""Real images, as batches that `fit` takes on every backend, and as plain arrays."""

from keras_dtkd.datasets.arrays import arrays as arrays
from keras_dtkd.datasets.batches import from_arrays as from_arrays
from keras_dtkd.datasets.folder import folder as folder
from keras_dtkd.datasets.named import cifar10 as cifar10
from keras_dtkd.datasets.named import cifar100 as cifar100
from keras_dtkd.datasets.named import digits as digits
from keras_dtkd.datasets.named import fashion_mnist as fashion_mnist
