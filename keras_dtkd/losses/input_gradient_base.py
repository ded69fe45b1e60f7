"""A loss on how long a vector for each sample is."""

from keras import ops

from keras_dtkd.core.masking import row_weights
from keras_dtkd.functional.norms import safe_sqrt, squared_norm
from keras_dtkd.losses.base import DistillationLoss

NORMS = ("per_sample", "batch")


class InputGradientLoss(DistillationLoss):
    """Base of the losses on input gradients, which are lengths of one or another.

    Args:
        norm: `"per_sample"` or `"batch"`.
        squared: Whether the length is squared.
        **kwargs: As `DistillationLoss`.

    Raises:
        ValueError: Another `norm`, or what `DistillationLoss` refuses.
    """

    def __init__(self, norm="per_sample", squared=False, **kwargs):
        super().__init__(**kwargs)
        if norm not in NORMS:
            raise ValueError(
                f"`{type(self).__name__}`: `norm` must be 'per_sample' or 'batch'. "
                f"Received: norm={norm!r}."
            )
        self.norm = norm
        self.squared = bool(squared)

    def norm_of(self, gradients, sample_weight=None, sample_mask=1.0):
        """The length of each sample's gradient, or of the whole batch's.

        Args:
            gradients: `(batch, ...)`, or nested; of the sum of the samples' losses.
            sample_weight: `(batch,)` or `(batch, 1)`. Optional.
            sample_mask: 1 or 0 for each sample, `(batch,)`.

        Returns:
            `(batch,)`; for `"batch"` the same value for each sample.
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
