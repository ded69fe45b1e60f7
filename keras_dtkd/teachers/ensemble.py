"""The weighted mean of several teachers."""

import copy
import functools
import hashlib
import math

import keras
import numpy as np
from keras import ops

from keras_dtkd.core import logits
from keras_dtkd.core.arguments import check_choice
from keras_dtkd.core.issue import describe_error
from keras_dtkd.core.logits import OutputKind
from keras_dtkd.teachers import base

AVERAGES = "logits", "probs"
SAME_KIND = "Give all of them the same kind of output."


class Ensemble(base.Teacher):
    """The weighted mean of the outputs of several teachers.

    `z̄ = Σ ω_i z_i` of logits, or `z̄ = log Σ ω_i softmax(z_i)` of probabilities. What
    it gives are logits, whatever its members give: those of a softmax or sigmoid are
    recovered first, since a mean of both kinds means nothing.

    A member's output kind is read off its layers. Where they do not show it (subclassed
    models), a Distiller finds it out from the first outputs; outside of one, such a
    member is taken for one of logits. If a member's sigmoid rates each label by itself,
    so does the ensemble: it gives one logit a label, and in `"probs"` averages each
    label's. Several outputs are averaged one by one as they are, in `"logits"` only.

    Args:
        models: `keras.Model`s and `Teacher`s, at least one. They stay as they are.
        weights: The ω, one a member; equal by default. Not negative; divided by their
            sum. A member of weight 0 does not run.
        average: What is averaged, `"logits"` or `"probs"` (probabilities).

    Attributes:
        members: A `Teacher` for each.
        weights: The ω, floats of sum 1.
        output_kinds: What each member gives, see `keras_dtkd.core.logits`.

    Raises:
        TypeError: A member is neither model nor `Teacher`.
        ValueError: No members; weights that are negative, all zero, or not one a
            member; an unknown `average`. When it first runs: members whose outputs do
            not fit together.

    Reference:
        Of logits: Kim et al., "Robustness-Reinforced Knowledge Distillation with
        Correlation Distance and Network Pruning", arXiv 2311.13934, whose target the
        example makes. Of probabilities: Hinton, Vinyals and Dean, "Distilling the
        Knowledge in a Neural Network", arXiv 1503.02531.

    Example:

    >>> Distiller([first, second], student)  # equal weights, in logits
    >>> Distiller(Ensemble([teacher, Pruned(teacher, 0.1)], [0.7, 0.3]), student)
    """

    def __init__(self, models, weights=None, average="logits"):
        if not isinstance(models, list | tuple):
            raise TypeError(
                "`Ensemble`: `models` must be a list of models or teachers. Received: "
                f"{type(models).__name__}."
            )
        self.average = check_choice("Ensemble", "average", average, AVERAGES)
        self.members = [base.resolve_teacher(model) for model in models]
        self.weights = _normalize_weights(weights, len(self.members))
        kinds = [base.known_output_kind(member) for member in self.members]
        self.set_output_kinds([kind or OutputKind.LOGITS for kind in kinds])

    @property
    def variables(self):
        return _unique(v for member in self.members for v in member.variables)

    @property
    def needs_sample_ids(self):
        return any(member.needs_sample_ids for member in self.members)

    @property
    def num_samples(self):
        """Samples that all members know, `None` where no member's are limited."""
        counts = [member.num_samples for member in self.members]
        return min((count for count in counts if count is not None), default=None)

    @property
    def output_names(self):
        """Names of the first member's outputs, or `None`."""
        return self.members[0].output_names

    def on_epoch_begin(self, epoch, epochs):
        for member in self.members:
            member.on_epoch_begin(epoch, epochs)

    def training_callbacks(self, distiller):
        return [c for m in self.members for c in m.training_callbacks(distiller)]

    def hold_out(self, data):
        shares = [member.hold_out(data) for member in self.members]
        return max((share for share in shares if share is not None), default=None)

    def issues(self, context):
        """Its own, on sample ids that suit all members; else the members'."""
        members = (issue for m in self.members for issue in m.issues(context))
        return super().issues(context) or list(members)

    @property
    def models(self):
        return tuple(model for member in self.members for model in member.models)

    @property
    def seed_variables(self):
        return _unique(v for member in self.members for v in member.seed_variables)

    @property
    def output_kind(self):
        """What it gives: `"logits"`, or `"binary logits"` where a member has a sigmoid.

        Of several outputs, the kind that all members have for the distilled one. A
        `ValueError` where some choose a class and others rate each label.
        """
        kinds = set(self.output_kinds)
        if self._multi_output and len(kinds) == 1:
            return self.output_kinds[0]
        is_multilabel = any(kind.is_multilabel for kind in kinds)
        if self._multi_output or (is_multilabel and OutputKind.SOFTMAX in kinds):
            raise ValueError(
                "`Ensemble`: the members give different kinds of outputs: "
                f"{', '.join(self.output_kinds)}. {SAME_KIND}"
            )
        return OutputKind.BINARY_LOGITS if is_multilabel else OutputKind.LOGITS

    def set_output_kinds(self, output_kinds, multi_output=False):
        """Sets the members' `OutputKind`s, where they are known from more than layers.

        If they have several outputs, those of the one that is distilled.
        """
        self.output_kinds = [OutputKind(kind) for kind in output_kinds]
        self._multi_output = multi_output

    def copy_settings(self):
        copied = copy.copy(self)
        copied.members = [member.copy_settings() for member in self.members]
        return copied

    def as_multilabel(self):
        """Makes logits those of a multi-label output, as the student's are."""
        if OutputKind.SOFTMAX in self.output_kinds:
            raise ValueError(
                "`Ensemble`: a member ends in a softmax, which chooses one class, but "
                f"the student rates each label by itself. {SAME_KIND}"
            )
        self.output_kinds = [kind.as_multilabel for kind in self.output_kinds]
        for member in self.members:
            if isinstance(member, Ensemble):
                member.as_multilabel()

    def outputs(self, x, sample_ids=None):
        """The mean of the members' outputs for a batch, float32 and shaped as theirs.

        A `ValueError` where the members' outputs do not fit together.
        """
        used = [i for i, weight in enumerate(self.weights) if weight > 0]
        outputs = [self.members[i].outputs(x, sample_ids) for i in used]
        _validate_compatible(outputs)
        weights, average = [self.weights[i] for i in used], _weighted_sum
        if len(keras.tree.flatten(outputs[0])) == 1:
            kinds = [self.output_kinds[i] for i in used]
            average = functools.partial(self._average, output_kinds=kinds)
        elif self.average == "probs":
            raise ValueError(
                "`Ensemble`: the members have several outputs, which "
                "`average='probs'` cannot handle. Use `average='logits'`, or give "
                "models with the distilled output alone."
            )
        return keras.tree.map_structure(
            lambda *leaves: average(leaves, weights), *outputs
        )

    def _average(self, leaves, weights, output_kinds):
        multilabel = self.output_kind == OutputKind.BINARY_LOGITS
        if multilabel:
            output_kinds = [kind.as_multilabel for kind in output_kinds]
        member_logits = map(logits.to_logits, leaves, output_kinds)
        if self.average == "probs":
            pairs = zip(member_logits, weights, strict=True)
            log_probs = [ops.log_softmax(z, axis=-1) + math.log(w) for z, w in pairs]
            mean = ops.logsumexp(ops.stack(log_probs), axis=0)
        else:
            mean = _weighted_sum(member_logits, weights)
        if not multilabel:
            return mean
        margin = mean[..., 1] - mean[..., 0]
        return margin[..., None] if leaves[0].shape[-1] == 1 else margin

    def fingerprint(self):
        # Another order would round sums otherwise, and so not continue bit for bit.
        digest = hashlib.blake2b(self.average.encode(), digest_size=16)
        for member, weight in zip(self.members, self.weights, strict=True):
            digest.update(f"|{np.float32(weight)}:{member.fingerprint()}".encode())
        return digest.hexdigest()


def _unique(variables):
    return list({id(variable): variable for variable in variables}.values())


def _normalize_weights(weights, count):
    if count == 0:
        raise ValueError("`Ensemble`: `models` is empty. Give at least one.")
    if weights is None:
        return [1 / count] * count
    try:
        values = np.array([float(weight) for weight in weights])
    except (TypeError, ValueError):
        values = np.array([])
    is_valid = len(values) == count and (values >= 0).all()
    if not is_valid or not 0 < values.sum() < np.inf:
        raise ValueError(
            f"`Ensemble`: `weights` must be {count} numbers, one a member, none "
            f"negative and not all 0. Received: weights={weights!r}."
        )
    return (values / values.sum()).tolist()


def _weighted_sum(leaves, weights):
    pairs = zip(leaves, weights, strict=True)
    return sum(weight * ops.cast(z, "float32") for z, weight in pairs)


def _validate_compatible(outputs):
    """All members' outputs have one structure, and each output one shape."""
    try:
        for others in outputs[1:]:
            keras.tree.assert_same_structure(outputs[0], others)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "`Ensemble`: the members' outputs are nested in different ways. Give "
            f"models with the same outputs. Keras raised: {describe_error(error)}"
        ) from error
    for a, *others in zip(*map(keras.tree.flatten, outputs), strict=True):
        for b in others:
            # An axis that a graph leaves open fits any.
            axes = zip(a.shape[1:], b.shape[1:], strict=False)
            unequal = any(m != n for m, n in axes if None not in (m, n))
            if unequal or len(a.shape) != len(b.shape):
                raise ValueError(
                    "`Ensemble`: the members give outputs of different shapes, "
                    f"{tuple(a.shape)} and {tuple(b.shape)}. Give models with the same "
                    "classes, which are the last axis."
                )
