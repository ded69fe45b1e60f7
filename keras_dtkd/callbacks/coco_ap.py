"""COCO's average precision, logged at the end of epochs."""

import keras
import numpy as np

from keras_dtkd.callbacks.periodic_evaluation import PeriodicEvaluation
from keras_dtkd.core.arguments import check_choice, check_positive_int
from keras_dtkd.core.arrays import take_rows, to_numpy
from keras_dtkd.core.boxes import BOX_FORMATS, validate_boxes
from keras_dtkd.core.layer_tree import find_data_format, get_image_size
from keras_dtkd.core.preprocessors import find_image_converter
from keras_dtkd.datasets.detection import DetectionDataset
from keras_dtkd.datasets.detection.split import DetectionSplit
from keras_dtkd.metrics.coco_ap import NAMES, coco_ap, validate_predictions


class CocoAP(PeriodicEvaluation):
    """Logs COCO's average precision (AP) of a detector at the end of epochs.

    For a Distiller, the student is evaluated; any other model that decodes boxes in
    `predict` is evaluated itself. `val_ap`, `val_ap50` and `val_ap75` enter the logs of
    the epoch, the progress bar and the history. Callbacks that read logs (`CSVLogger`,
    `EarlyStopping`, `StudentCheckpoint`) must come after this callback in the list, and
    need `mode="max"` to monitor it.

    The first epoch of a `fit` is always evaluated, because `CSVLogger` takes its
    columns from it, and so is the last. Where `Resume` continues a run, the epochs are
    those of an unbroken one, and a `CSVLogger` that the run had keeps its columns.
    Where several processes train together, each evaluates all images, so that all have
    the same logs.

    Args:
        x: Images, an array; or, with no `y`, a `DetectionSplit` such as
            `keras_dtkd.datasets.bccd().validation`, or a `DetectionDataset` with
            `shuffle=False`.
        y: `{"boxes": (images, max_boxes, 4), "labels": (images, max_boxes)}`; rows of
            label -1 are padding.
        bounding_box_format: Format of the predicted boxes, as in
            `keras_dtkd.datasets.bccd`. By default the model's `bounding_box_format`,
            which KerasHub's detectors have.
        label_format: Format of the boxes of the labels. By default that of the
            `DetectionDataset`, and of the predicted boxes for arrays.
        frequency: Epochs between two evaluations.
        prefix: Before the names of the logs.
        batch_size: Images in a batch of an array.
        by_area: Whether `val_ap_small`, `val_ap_medium` and `val_ap_large` are logged.
        class_names: Adds the AP of each class, `val_ap/<name>`. Optional.
        scales: See `keras_dtkd.metrics.coco_ap`. For `by_area`. By default those of the
            `DetectionDataset`.
        verbose: 1 shows the progress of the predictions.

    Raises:
        ValueError: `frequency` is below 1, or shapes do not fit; at the beginning of
            `fit`: the model's `predict` returns no decoded boxes, or the format of
            boxes is not known.
        ImportError: pycocotools is not installed.

    Example:

    >>> ap = CocoAP(data.validation)
    >>> best = StudentCheckpoint(
    ...     "best.keras", monitor="val_ap", mode="max", save_best_only=True
    ... )
    >>> distiller.fit(x, y, epochs=24, callbacks=[ap, best])
    """

    def __init__(
        self,
        x,
        y=None,
        bounding_box_format=None,
        frequency=1,
        prefix="val_",
        batch_size=8,
        by_area=False,
        class_names=None,
        scales=None,
        label_format=None,
        verbose=0,
    ):
        super().__init__(frequency, f"{prefix}ap", verbose)
        if isinstance(x, DetectionSplit):
            x = DetectionDataset(x, batch_size=batch_size, shuffle=False)
        if isinstance(x, DetectionDataset):
            _validate_dataset(x, y)
            y = x.labels
            label_format = label_format or x.bounding_box_format
            scales = x.scales if scales is None else scales
        else:
            validate_boxes("CocoAP", y, len(x))
        formats = None, *BOX_FORMATS
        self.bounding_box_format = check_choice(
            "CocoAP", "bounding_box_format", bounding_box_format, formats
        )
        self.label_format = check_choice(
            "CocoAP", "label_format", label_format, formats
        )
        self.x, self.y = x, y
        self.batch_size = check_positive_int("CocoAP", "batch_size", batch_size)
        self.prefix, self.by_area = prefix, by_area
        self.class_names, self.scales = class_names, scales
        count = len(y["boxes"])
        if scales is not None and np.shape(scales) not in ((2,), (count, 2)):
            raise ValueError(
                f"`CocoAP`: `scales` must have the shape (2,) or ({count}, 2), one for "
                f"each image. Received: shape {np.shape(scales)}."
            )
        self._image_size = None

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        # A batch shows what is wrong before the first step.
        if isinstance(self.x, DetectionDataset):
            x, y = self.x[0]
        else:
            rows = slice(self.batch_size)
            x, y = take_rows(self.x, rows), take_rows(self.y, rows)
        data_format = find_data_format(self.evaluated_model)
        self._image_size = tuple(get_image_size(x.shape, data_format))
        scales = self.scales
        if np.ndim(scales) == 2:
            scales = np.asarray(scales)[: len(x)]
        self._evaluate(x, y, scales, verbose=0)

    def add_results(self, logs):
        result = self._evaluate(self.x, self.y, self.scales, self.verbose)
        skipped = () if self.by_area else NAMES[3:]
        for name, value in result.items():
            if name not in skipped:
                logs[f"{self.prefix}{name}"] = value

    def _evaluate(self, x, y, scales, verbose):
        model = self.evaluated_model
        self._refuse_resizing(model)
        name = self.bounding_box_format or getattr(model, "bounding_box_format", None)
        if name is None:
            raise ValueError(
                f"`CocoAP`: the model {model.name!r} has no `bounding_box_format`. "
                f"Pass it: one of {', '.join(map(repr, BOX_FORMATS))}."
            )
        if isinstance(x, DetectionDataset):
            predictions = _predict_batches(model, x, verbose)
        else:
            predictions = _predict(model, x, self.batch_size, verbose)
        validate_predictions("CocoAP", predictions, len(y["boxes"]))
        return coco_ap(
            predictions,
            y,
            name,
            label_format=self.label_format,
            image_size=self._image_size,
            scales=scales,
            class_names=self.class_names,
        )

    def _refuse_resizing(self, model):
        size = getattr(find_image_converter(model), "image_size", None)
        if size is not None and tuple(size) != self._image_size:
            raise ValueError(
                f"`CocoAP`: the model's preprocessor resizes images of "
                f"{self._image_size} to {tuple(size)}, and boxes are predicted in "
                "pixels of these. Give images and boxes of that size."
            )


def _predict(model, x, batch_size, verbose):
    """`predict` in batches of one size; the last is filled with the last image.

    On TensorFlow, KerasHub's non-maximum suppression fails on batches of another size.
    """
    images = to_numpy(x)
    padding = [(0, -len(images) % batch_size), *(images.ndim - 1) * [(0, 0)]]
    filled = np.pad(images, padding, "edge")
    predictions = model.predict(filled, batch_size, verbose=verbose)
    return take_rows(predictions, slice(len(images)))


def _predict_batches(model, dataset, verbose):
    """`predict` of a data set, which KerasHub's models do not take."""
    progress = keras.utils.Progbar(len(dataset), verbose=verbose)
    batches = []
    for i in range(len(dataset)):
        x, _ = dataset[i]
        # KerasHub's detectors fail in `predict_on_batch`.
        batches.append(_predict(model, x, dataset.batch_size, verbose=0))
        progress.add(1)
    return keras.tree.map_structure(lambda *parts: np.concatenate(parts), *batches)


def _validate_dataset(dataset, y):
    problems = {
        "`y`": y is not None,
        "`shuffle=True`": dataset.shuffle,
        "`augment`": dataset.augment is not None,
        "`columns`": bool(dataset.columns),
        "`drop_remainder=True`": dataset.drop_remainder,
    }
    for name, is_given in problems.items():
        if is_given:
            raise ValueError(
                "`CocoAP`: a DetectionDataset holds the labels, in order: pass none of "
                f"`y`, `shuffle=True`, `augment`, `columns`, `drop_remainder=True` "
                f"with it. Received: {name}."
            )
