"""Softer and noisier targets for tokens that may be private (Swing)."""

import keras
import numpy as np
from keras import ops

from keras_dtkd.core import arrays
from keras_dtkd.core.columns import get_columns
from keras_dtkd.core.hyperparameters import Hyperparameter
from keras_dtkd.core.issue import ERROR, Issue
from keras_dtkd.core.masking import row_weights
from keras_dtkd.functional.divergences import kl
from keras_dtkd.functional.statistics import soft_log_probs
from keras_dtkd.losses.base import DistillationLoss, LossValues
from keras_dtkd.temperatures.privacy import PrivacyTemperature


@keras.saving.register_keras_serializable("keras_dtkd")
class Swing(DistillationLoss):
    """Hides private tokens from the student by a temperature a token, and by noise.

    `w · KL(softmax((z_t + ξ) / T) ‖ softmax(z_s / T_s))` for each token, where
    `T = min + (max − min) · score^γ` follows a privacy score from 0 to 1 and
    `ξ ~ N(0, noise²)` is drawn anew for each logit in each training step. In the loss
    on the labels, a token has the weight `1 − score`: a label would give away what the
    soft targets hide.

    **This is a reconstruction from the paper's abstract alone, and no differential
    privacy**: nothing is clipped, nothing is accounted, and no (ε, δ) holds. What a
    student gives away has to be measured, see `metrics.CanaryExposure`. It is as good,
    and with poor scores it was better, to leave private tokens out of all losses:
    `fit(..., sample_weight=1 - scores)` with `KD`. docs/swing.md has the figures.

    **With `student_temperature="shared"` the temperature hides nothing**: for every T
    the loss is least where the student's logits are the teacher's, up to a constant.
    With 1, it is least where the student's probabilities are the softened ones.
    `scale_by_t2=True` gives private tokens more weight, up to T² times that of others.
    No temperature changes the order of the classes: high ones hide by differences that
    are too small to be learned, and less with every epoch.

    Fresh noise averages out: over many epochs a student learns its mean. Without
    training (`evaluate`, `Distiller.compute_losses`) there is no noise.

    Args:
        privacy: How likely it is that a token is private. A function of the batch's
            inputs (tensors, nested as the models take them) that runs inside the
            compiled step (`keras.ops`); or the name of a column, see
            `keras_dtkd.datasets.with_columns`, or of one of the inputs, where `x` is a
            dict. Scores are `(batch, time)`, in the order of the labels: each is that
            of the token which the output at its place predicts. `(batch,)` for
            outputs `(batch, classes)`. For the model to be loaded, a function must be
            registered with Keras (`keras.saving.register_keras_serializable`).
        minimum: The teacher's temperature at a score of 0. Positive.
        maximum: The teacher's temperature at a score of 1, at least
            `minimum`.
        noise: Standard deviation of ξ, in units of the teacher's logits, the same at
            every score. Not negative.
        student_temperature: T_s, a positive number, or `"shared"` for T.
        scale_by_t2: Whether w is T². Else it is 1.
        gamma: γ. Positive.
        seed: Of the noise.
        **kwargs: `weight`, `warmup_epochs` and more, see `DistillationLoss`.

    All numbers can be changed during training: `swing.noise`,
    `swing.privacy_temperature.maximum`.

    Raises:
        ValueError: A number out of its range; `privacy` is neither name nor function,
            or is a Keras layer. Before the first step: scores that are missing, have
            another shape or lie outside of [0, 1]; labels for several outputs.

    Reference:
        Li et al., "Swing Distillation: A Privacy-Preserving Knowledge Distillation
        Framework", arXiv 2212.08349. Only its abstract is public: temperatures by the
        likelihood of private information, and noise in the soft targets. The formulas,
        the weights and the masked labels are this library's own.

    Example:

    >>> x = keras_dtkd.datasets.with_columns(tokens, privacy=scores)
    >>> loss = Swing(privacy="privacy", maximum=100.0)
    >>> Distiller(teacher, student, loss).fit(x, labels)
    """

    compares_classes = True
    noise = Hyperparameter(minimum=0.0)

    def __init__(
        self,
        privacy,
        minimum=1.0,
        maximum=100.0,
        noise=1.0,
        student_temperature=1.0,
        scale_by_t2=False,
        gamma=1.0,
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if isinstance(privacy, dict):
            privacy = keras.saving.deserialize_keras_object(privacy)
        is_function = callable(privacy) and not isinstance(privacy, keras.layers.Layer)
        if not is_function and not (isinstance(privacy, str) and privacy):
            raise ValueError(
                "`Swing`: `privacy` must be a function of the inputs or the name of a "
                f"column. Received: privacy={privacy!r}. Compute the scores of a model "
                "beforehand, and give them as a column."
            )
        self.privacy = privacy
        try:
            self.privacy_temperature = PrivacyTemperature(
                minimum,
                maximum,
                gamma,
                student_temperature,
                scale_by_t2,
            )
        except ValueError as error:
            message = str(error).replace("`PrivacyTemperature`", "`Swing`")
            raise ValueError(message) from None
        self.noise = noise
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def compute_with_temperatures(self, step):
        """`LossValues`: one value a token, `(batch, time)`, in nats times w."""
        student = ops.cast(step.student_logits, "float32")
        teacher = ops.cast(step.teacher_logits, "float32")
        scores = self.scores(step.x, step.columns)
        pair = self.privacy_temperature(student, teacher, scores=scores)
        if step.training:
            noise = keras.random.normal(
                ops.shape(teacher), dtype="float32", seed=self.seed_generator
            )
            teacher = teacher + self.hyperparameter("noise") * noise
        values = pair.weight * kl(
            soft_log_probs(ops.stop_gradient(teacher), pair.teacher),
            soft_log_probs(student, pair.student),
        )
        return LossValues(values, pair)

    def scores(self, x, columns=None):
        """The privacy scores of a batch, float32 from 0 to 1, without gradient.

        Args:
            x: The batch of inputs, as the models take it.
            columns: As in a `Step`.
        """
        if callable(self.privacy):
            scores = self.privacy(x)
        else:
            sources = [s for s in (columns, x) if isinstance(s, dict)]
            found = [s[self.privacy] for s in sources if self.privacy in s]
            if not found:
                names = sorted(str(name) for source in sources for name in source)
                raise ValueError(
                    f"`Swing`: the batches have no column {self.privacy!r}. "
                    f"Found: {', '.join(names) or 'none'}. Give "
                    f"`keras_dtkd.datasets.with_columns(x, {self.privacy}=scores)` in "
                    "place of `x`."
                )
            scores = found[0]
        scores = ops.cast(ops.convert_to_tensor(scores), "float32")
        return ops.clip(ops.stop_gradient(scores), 0.0, 1.0)

    def task_sample_weight(self, x, columns, y, sample_weight):
        """The weights of the labels, times `1 − score`: `(batch, time)`."""
        public = 1.0 - self.scores(x, columns)
        if len(public.shape) == 0:
            public = public * ops.ones(ops.shape(y)[:1])
        weights = row_weights(public[..., None], sample_weight)
        return public if weights is None else public * weights

    def get_temperatures(self):
        """The temperature by privacy, whose means are logged."""
        return [self.privacy_temperature]

    def issues(self, context):
        """Scores that are missing or no scores, and labels of several outputs."""
        issues = list(super().issues(context))
        if keras.tree.is_nested(context.sample.y):
            message = "`Swing`: the data has labels of several outputs, of which it "
            message += "cannot know which are private."
            hint = "Train on the labels of one output, or without: `fit(x)`."
            return [*issues, Issue("several_labels", ERROR, message, hint)]
        wrong = self._find_wrong_scores(context)
        return [*issues, *([wrong] if wrong else [])]

    def _find_wrong_scores(self, context):
        """An `Issue` about the scores of the sample, or `None`."""
        code, (spec, _) = "privacy_scores", context.specs_of(self)
        x, y, columns = context.inputs, context.sample.y, get_columns(context.sample.x)
        try:
            if callable(self.privacy):
                scores = arrays.to_numpy(self.privacy(arrays.to_tensors(x)))
            else:
                self.scores(x, columns)
                scores = columns.get(self.privacy)
                scores = np.asarray(x[self.privacy] if scores is None else scores)
        except Exception as error:  # noqa: BLE001 - a function of the user's own
            own = str(error).startswith("`Swing`")
            message = f"`Swing`: the function `privacy` failed on a batch: {error}"
            return Issue(code, ERROR, str(error) if own else message, cause=error)
        if not np.isfinite(scores).all() or scores.min() < 0 or scores.max() > 1:
            message = (
                f"`Swing`: privacy scores must lie in [0, 1]. Found: {scores.min():g} "
                f"to {scores.max():g}."
            )
            return Issue(code, ERROR, message)
        rank = scores.ndim if spec is None else len(spec.shape) - 1
        lengths = scores.shape[1:]
        if rank > 1:
            lengths = spec.shape[1:-1] if y is None else np.shape(y)[1:rank]
        pairs = zip(scores.shape[1:], lengths, strict=False)
        fits = scores.ndim == rank and all(b in (a, None) for a, b in pairs)
        if scores.ndim and not fits:
            message = (
                f"`Swing`: privacy scores of shape {scores.shape} do not fit outputs "
                f"of shape {tuple(spec.shape)}: each label needs one."
            )
            return Issue(code, ERROR, message)
        return None

    def get_config(self):
        rule = self.privacy_temperature.get_config()
        names = (
            *("minimum", "maximum", "gamma"),
            *("student_temperature", "scale_by_t2"),
        )
        return {**super().get_config(), **{name: rule[name] for name in names}}
