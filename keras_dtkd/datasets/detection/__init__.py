"""Images with bounding boxes: batches and augmentation."""

from keras_dtkd.datasets.detection.dataset import DetectionDataset as DetectionDataset
from keras_dtkd.datasets.detection.sample import DetectionSample as DetectionSample
from keras_dtkd.datasets.detection.sample_specific import (
    SampleSpecificAugmentation as SampleSpecificAugmentation,
)
from keras_dtkd.datasets.detection.split import DetectionSplit as DetectionSplit
