"""Adversarial features: the student's features of images that mislead the teacher."""

import keras
from keras import ops

from keras_dtkd.core.arguments import check_choice
from keras_dtkd.core.hyperparameters import Hyperparameter
from keras_dtkd.core.issue import ERROR, Issue
from keras_dtkd.functional.divergences import kl
from keras_dtkd.functional.norms import absolute
from keras_dtkd.losses.feature_mse import FeatureMSE
from keras_dtkd.losses.projected_features import require_map


@keras.saving.register_keras_serializable("keras_dtkd")
class AdversarialFeatures(FeatureMSE):
    """Matches the levels of a pyramid on adversarial images (AFA, a part of IKD).

    `FeatureMSE` of a view: the student's features of the adversarial image to the
    teacher's of it. It costs one more pass of each model. The view must show its images
    in inference mode, as `views.Stored` does: BatchNorm's statistics would be those of
    adversarial images else.

    Args:
        features: Levels, see `FeatureLoss`.
        loss_type: `"mse"`, which the authors use; `"l1"`, of absolute differences; or
            `"cwd"`, the divergence of each channel's softmax over the positions at
            `temperature`, times τ², the mean over channels whatever the `reduction`.
        temperature: τ of `"cwd"`. Positive.
        reduction: See `FeatureMSE`. `"sum"` is the authors', see `published`.
        view: Name of the view.
        **kwargs: `projector`, see `ProjectedFeatureLoss`; `weight` and more, see
            `DistillationLoss`.

    Raises:
        ValueError: An unknown `loss_type`, a `temperature` that is not positive. Before
            the first step: a view in training mode, or features of unlike form.

    Reference:
        Liang et al., "Inconsistent Knowledge Distillation for Object Detection with
        Data Augmentation", arXiv 2209.09841, and the authors' code. `"cwd"`: Shu et
        al., "Channel-wise Knowledge Distillation", arXiv 2011.13256.

    Example:

    >>> losses = [FGD(levels), AdversarialFeatures(levels, weight=0.1)]
    >>> x = with_columns(images, adversarial=adversarial_images)
    >>> Distiller(teacher, student, losses, views=Stored("adversarial")).fit(x, y)
    """

    temperature = Hyperparameter(greater_than=0.0)

    def __init__(
        self,
        features,
        loss_type="mse",
        temperature=1.0,
        reduction="mean",
        view="adversarial",
        **kwargs,
    ):
        if view is None:
            raise ValueError(
                "`AdversarialFeatures`: `view` is the name of a view with adversarial "
                "images. Received: view=None; for the images themselves take "
                "`FeatureMSE`."
            )
        super().__init__(features, reduction, view=view, **kwargs)
        caller, choices = type(self).__name__, ("mse", "l1", "cwd")
        self.loss_type = check_choice(caller, "loss_type", loss_type, choices)
        self.temperature = temperature

    @classmethod
    def published(cls, features, weight=1e-5, **kwargs):
        """The authors' form for RetinaNet and RepPoints on COCO, 1333 by 800 pixels.

        `reduction="sum"`. For Mask R-CNN the weight is 2.5e-7. Takes the other
        arguments of the class.
        """
        return cls(features, reduction="sum", weight=weight, **kwargs)

    def build_pair(self, names, teacher_shape):
        if self.loss_type == "cwd":
            require_map(self.name, names, teacher_shape)

    def distance(self, student, teacher):
        if self.loss_type == "mse":
            return super().distance(student, teacher)
        return absolute(student - teacher)

    def compare(self, student, teacher, number=0, weights=None, masks=(None, None)):
        if self.loss_type != "cwd":
            return super().compare(student, teacher, number, weights, masks)
        student = self.project(student, teacher, number)
        temperature = self.hyperparameter("temperature")
        student, teacher = (
            ops.log_softmax(
                ops.reshape(each, (ops.shape(each)[0], -1, each.shape[-1]))
                / temperature,
                axis=1,
            )
            for each in (student, teacher)
        )
        return temperature**2 * ops.mean(kl(teacher, student, axis=1), axis=-1)

    def issues(self, context):
        """Adds a view on which the student is in training mode."""
        issues = list(super().issues(context))
        view = context.views.get(self.view)
        if view is None or view.inference:
            return issues
        message = (
            f"`Distiller`: `{context.name_of(self)}` is for the view {self.view!r}, on "
            "which the student is in training mode: BatchNorm would learn the "
            "statistics of adversarial images."
        )
        hint = "Give that view `inference=True`, as `views.Stored` has it."
        return [*issues, Issue("training_view", ERROR, message, hint)]
