"""A detector under attack: its own loss of each image, by its class outputs."""

import keras
import numpy as np
from keras import ops

from keras_dtkd import backend
from keras_dtkd.attacks import input_diversity
from keras_dtkd.attacks.attacked_model import AttackedModel
from keras_dtkd.core.arrays import to_numpy
from keras_dtkd.core.compiled_loss import compute_own_loss
from keras_dtkd.core.detectors import check_detector_labels, find_label_format
from keras_dtkd.core.issue import describe_error
from keras_dtkd.core.layer_tree import get_image_size


class AttackedDetector(AttackedModel):
    """A model whose own `compute_loss` takes boxes, in inference mode.

    The loss of each image is the model's own of a batch of that image. Its gradient
    reaches the image by way of the class outputs alone: it is that of the
    classification loss. An image without boxes may have none, and then stays as it is.
    """

    # Images are large, and their losses are computed one by one.
    max_batch_size = 8

    def __init__(self, caller, model, x, output, from_logits, batch_size, loss=None):
        batch_size = min(batch_size, self.max_batch_size)
        super().__init__(caller, model, x, output, from_logits, batch_size, loss)
        self._first_image = x[:1]
        self._loss_checked = False

    def _validate_output(self, x):
        outputs = self._compute_output_spec(x)
        has_own_loss = type(self.model).compute_loss is not keras.Model.compute_loss
        if not isinstance(outputs, dict) or not has_own_loss:
            raise ValueError(
                f"`{self.caller}`: `y` has boxes, and the model is no detector with "
                "outputs by name whose class overrides `compute_loss`, as those of "
                "KerasHub are. For a classifier give class indices."
            )
        names = self._output
        if names is None:
            names = [name for name in outputs if "logits" in name]
        self._class_outputs = [names] if isinstance(names, str) else list(names)
        unknown = set(self._class_outputs) - set(outputs)
        if unknown or not self._class_outputs:
            raise ValueError(
                f"`{self.caller}`: set `output=` to the detector's class outputs. "
                f"There are: {', '.join(map(repr, outputs))}. Received: "
                f"output={self._output!r}."
            )

    def _infer_kind(self, probe, from_logits, loss):
        """No-op: the model's own loss is made for its outputs."""

    def encode_labels(self, y, num_samples):
        """Boxes and labels as one array, `(samples, boxes, 5)`."""
        boxes, labels = (to_numpy(y.get(name, ())) for name in ("boxes", "labels"))
        is_numeric = all(array.dtype.kind in "biufV" for array in (boxes, labels))
        shape = (num_samples, *boxes.shape[1:2], 4)
        if not is_numeric or boxes.shape != shape or labels.shape != shape[:2]:
            raise ValueError(
                f"`{self.caller}`: the labels of a detector are 'boxes', "
                f"`({num_samples}, boxes, 4)`, and 'labels', `({num_samples}, boxes)`, "
                "with boxes and labels of -1 where an image has fewer. Received: "
                f"{ {name: np.shape(value) for name, value in y.items()} }."
            )
        named = {"boxes": boxes, "labels": labels}
        check_detector_labels(self.caller, self.model, self._first_image, named)
        packed = np.concatenate([boxes, labels[..., None]], axis=-1).astype("float32")
        if not self._loss_checked:
            self._validate_loss(packed[:1])
            self._loss_checked = True
        return packed

    def _validate_loss(self, y):
        """Runs the loss once. What it makes in its first call is no part of a step."""
        x, y = map(ops.convert_to_tensor, (self._first_image, y))
        try:
            with backend.no_grad(), keras.StatelessScope():
                self._losses(x, y)
        except Exception as error:
            raise ValueError(
                f"`{self.caller}`: the detector's own loss fails on the first image. "
                "Is it compiled, and do the labels fit? The error: "
                f"{describe_error(error)}"
            ) from error

    def _losses(self, x, y):
        """Of each image, with a gradient by way of the class outputs: `(batch,)`."""
        outputs = {
            name: value if name in self._class_outputs else ops.stop_gradient(value)
            for name, value in self.model(x, training=False).items()
        }
        y = {"boxes": y[..., :4], "labels": ops.cast(y[..., 4], "int32")}
        return ops.map(self._loss_of_image, (x, y, outputs))

    def _loss_of_image(self, image):
        """The model's own loss of a batch of one image, a scalar."""
        x, y, outputs = keras.tree.map_structure(lambda value: value[None], image)
        # Compiled losses keep their means, which no loop may hand out.
        with keras.StatelessScope():
            loss = compute_own_loss(self.model, x, y, outputs, None, False)
        return ops.cast(loss, "float32")

    def _loss_and_correct(self, x, y):
        losses = self._losses(x, y)
        # Neither correct nor misled: no start ends the attack.
        return losses, ops.full_like(losses, -1.0)

    def _input_gradient(self, x, y, resize_matrices):
        def total_loss(x):
            labels = y
            if resize_matrices is not None:
                labels = self._move_boxes(x, y, resize_matrices)
                rows, columns = resize_matrices
                x = input_diversity.resize(x, rows, columns, self.data_format)
            return ops.sum(self._losses(x, labels))

        return backend.value_and_grad(total_loss, x)[1]

    def _move_boxes(self, x, y, resize_matrices):
        """The labels of resized images; padding stays as it is."""
        box_format = find_label_format(self.model)
        if box_format is None:
            raise ValueError(
                f"`{self.caller}`: the detector has no `bounding_box_format`, so that "
                "its boxes cannot be moved. Set `diversity=0`."
            )
        convert = keras.utils.bounding_boxes.convert_format
        height, width = get_image_size(x.shape, self.data_format)
        size = {"height": height, "width": width}
        boxes = convert(y[..., :4], box_format, "rel_xyxy", **size)
        boxes = input_diversity.move_boxes(boxes, *resize_matrices)
        moved = convert(boxes, "rel_xyxy", box_format, **size)
        moved = ops.concatenate([moved, y[..., 4:]], axis=-1)
        return ops.where(y[..., 4:] < 0, y, moved)
