"""A loss on how long a vector for each sample is."""

from keras import ops

from keras_dtkd.core.arguments import check_choice
from keras_dtkd.core.masking import row_weights
from keras_dtkd.functional.norms import safe_sqrt, squared_norm
from keras_dtkd.losses.base import DistillationLoss

NORMS = ("per_sample", "batch")


class InputGradientLoss(DistillationLoss):
    """Base of the losses on input gradients, see `InputGradientAlignment`."""

    # The gradients are those of a cross-entropy.
    compares_classes = True

    def __init__(self, weight=1.0, norm="per_sample", squared=False, **kwargs):
        super().__init__(weight, **kwargs)
        self.norm = check_choice(type(self).__name__, "norm", norm, NORMS)
        self.squared = bool(squared)

    def norm_of(self, gradients, sample_weight=None, sample_mask=1.0):
        """The norm of each sample's gradient, or of the whole batch's, `(batch,)`.

        Args:
            gradients: `(batch, ...)`, or nested; of the sum of the samples' losses.
            sample_weight: `(batch,)` or `(batch, 1)`. Optional.
            sample_mask: 1 or 0 for each sample, `(batch,)`.
        """
        size = squared_norm(gradients)
        if self.norm == "per_sample":
            return sample_mask * (size if self.squared else safe_sqrt(size))
        weights = row_weights(size[..., None], sample_weight)
        weights = ops.ones_like(size) if weights is None else weights
        total = ops.sum(weights)
        total = ops.where(total > 0, total, 1.0)
        # The authors' gradient is that of the mean loss, each row divided by the batch.
        whole = ops.sum(weights * sample_mask * size)
        value = whole / total**3 if self.squared else safe_sqrt(whole) / total**2
        return value * ops.ones_like(size)
