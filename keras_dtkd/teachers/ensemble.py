"""Several models that teach together."""

import hashlib
import math

import keras
import numpy as np
from keras import ops

from keras_dtkd.core import logits
from keras_dtkd.teachers import base
from keras_dtkd.teachers.sample_ids import needs_sample_ids

EACH_LABEL = {logits.SIGMOID, logits.BINARY}


class Ensemble:
    """The weighted mean of what several teachers say.

    `z̄ = Σ ω_i z_i` of logits, or `z̄ = log Σ ω_i softmax(z_i)` of probabilities. What
    it gives are logits, whatever its members give: those of a softmax or sigmoid are
    recovered first, since a mean of both kinds means nothing.

    A member's head is read off its layers. Where they do not tell (subclassed models),
    a Distiller finds it out from the first outputs; outside of one, such a member is
    taken for one of logits. Members with a sigmoid judge each label by itself: then so
    does the ensemble. It gives one logit a label, and in `"probabilities"` it averages
    each label's.

    Several outputs are averaged one by one as they are, whatever their heads, and in
    `"logits"` only.

    Args:
        models: `keras.Model`s and `Teacher`s, at least one. They stay as they are.
        weights: The ω, one a member; equal by default. Not negative; divided by their
            sum. A member of weight 0 is not asked.
        in_: What is averaged, `"logits"` or `"probabilities"`.

    Attributes:
        members: A `Teacher` for each.
        weights: The ω, floats of sum 1.
        heads: What each member gives, see `keras_dtkd.core.logits`.

    Raises:
        TypeError: A member is neither model nor `Teacher`.
        ValueError: No members; weights that are negative, all zero, or not one a
            member; an unknown `in_`. When it first speaks: members whose outputs do
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

    def __init__(self, models, weights=None, in_="logits"):
        if not isinstance(models, list | tuple):
            raise TypeError(
                "`Ensemble`: `models` must be a list of models or teachers. Received: "
                f"{type(models).__name__}."
            )
        if in_ not in ("logits", "probabilities"):
            raise ValueError(
                "`Ensemble`: `in_` must be 'logits' or 'probabilities'. Received: "
                f"in_={in_!r}."
            )
        self.members = [base.resolve_teacher(model) for model in models]
        self.weights = _normalized(weights, len(self.members))
        self.in_ = in_
        self.settle([_head(member) for member in self.members])

    @property
    def variables(self):
        """All members' variables, each once."""
        variables = [v for member in self.members for v in member.variables]
        return list({id(v): v for v in variables}.values())

    @property
    def needs_sample_ids(self):
        """Whether a member's outputs are stored."""
        return any(needs_sample_ids(member) for member in self.members)

    @property
    def rows(self):
        """How many rows all members have answers to, `None` where none is stored."""
        counts = [getattr(m, "rows", None) for m in self.members if needs_sample_ids(m)]
        return min((count for count in counts if count is not None), default=None)

    @property
    def output_names(self):
        """Names of the first member's outputs, or `None`."""
        member = self.members[0]
        return getattr(getattr(member, "model", member), "output_names", None)

    @property
    def head(self):
        """What it gives: `"logits"`, or `"binary logits"` where a member has a sigmoid.

        Of several outputs, the head that all members have for the distilled one.

        Raises:
            ValueError: Some members choose a class and others judge each label.
        """
        heads = set(self.heads)
        if self._several and len(heads) == 1:
            return self.heads[0]
        if self._several or (heads & EACH_LABEL and logits.SOFTMAX in heads):
            raise ValueError(
                "`Ensemble`: the members give different kinds of outputs: "
                f"{', '.join(self.heads)}. Give all of them the same head."
            )
        return logits.BINARY if heads & EACH_LABEL else logits.LOGITS

    def settle(self, heads, several=False):
        """Says what the members give, where it is known better than by their layers.

        Args:
            heads: One of the heads of `keras_dtkd.core.logits` for each member.
            several: Whether they have several outputs. Then `heads` are those of the
                one that is distilled.
        """
        self.heads = list(heads)
        self._several = several

    def multilabel(self):
        """Says that logits are a choice for each label, as the student's are.

        Raises:
            ValueError: A member ends in a softmax.
        """
        if logits.SOFTMAX in self.heads:
            raise ValueError(
                "`Ensemble`: a member ends in a softmax, which chooses one class, but "
                "the student judges each label by itself. Give all of them the same "
                "kind of head."
            )
        self.heads = [logits.BINARY if h == logits.LOGITS else h for h in self.heads]
        for member in self.members:
            if isinstance(member, Ensemble):
                member.multilabel()

    def outputs(self, x, rows=None):
        """The mean of the members' outputs for a batch, float32 and shaped as theirs.

        Raises:
            ValueError: The members' outputs do not fit together.
        """
        asked = [i for i, weight in enumerate(self.weights) if weight > 0]
        said = [self.members[i].outputs(x, rows) for i in asked]
        _check_fit(said)
        weights = [self.weights[i] for i in asked]
        if len(keras.tree.flatten(said[0])) == 1:
            heads = [self.heads[i] for i in asked]
            return keras.tree.map_structure(
                lambda *leaves: self._mean(leaves, weights, heads), *said
            )
        if self.in_ == "probabilities":
            raise ValueError(
                "`Ensemble`: the members have several outputs, which `in_="
                "'probabilities'` cannot average. Use `in_='logits'`, or give models "
                "with the distilled output alone."
            )
        return keras.tree.map_structure(lambda *leaves: _sum(leaves, weights), *said)

    def _mean(self, leaves, weights, heads):
        multilabel = self.head == logits.BINARY
        if multilabel:
            heads = [logits.BINARY if h == logits.LOGITS else h for h in heads]
        recovered = map(logits.to_logits, leaves, heads)
        if self.in_ == "probabilities":
            pairs = zip(recovered, weights, strict=True)
            shares = [ops.log_softmax(z, axis=-1) + math.log(w) for z, w in pairs]
            mean = ops.logsumexp(ops.stack(shares), axis=0)
        else:
            mean = _sum(recovered, weights)
        if not multilabel:
            return mean
        mean = mean[..., 1:] - mean[..., :1]
        return mean if leaves[0].shape[-1] == 1 else ops.squeeze(mean, axis=-1)

    def fingerprint(self):
        """Changes with `in_`, the weights, the members' fingerprints and their order.

        Another order would round sums otherwise, and so not continue bit for bit.
        """
        digest = hashlib.blake2b(self.in_.encode(), digest_size=16)
        for member, weight in zip(self.members, self.weights, strict=True):
            digest.update(f"|{np.float32(weight)}:{member.fingerprint()}".encode())
        return digest.hexdigest()


def _normalized(weights, count):
    if count == 0:
        raise ValueError("`Ensemble`: `models` is empty. Give at least one.")
    if weights is None:
        return [1 / count] * count
    try:
        values = np.array([float(weight) for weight in weights])
    except (TypeError, ValueError):
        values = np.array([np.nan])
    sound = len(values) == count and (values >= 0).all() and 0 < values.sum() < np.inf
    if not sound:
        raise ValueError(
            f"`Ensemble`: `weights` must be {count} numbers, one a member, none "
            f"negative and not all 0. Received: weights={weights!r}."
        )
    return (values / values.sum()).tolist()


def _head(member):
    """What a member gives, as far as it can be known without asking it."""
    stated = getattr(member, "head", None)
    if isinstance(stated, str):
        return stated
    model = getattr(member, "model", None)
    told = None if model is None else logits.infer_output_kind(model)
    return logits.LOGITS if told is None else told


def _sum(leaves, weights):
    pairs = zip(leaves, weights, strict=True)
    return sum(weight * ops.cast(z, "float32") for z, weight in pairs)


def _check_fit(said):
    """All members' outputs have one structure, and each output one shape."""
    try:
        for other in said[1:]:
            keras.tree.assert_same_structure(said[0], other)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "`Ensemble`: the members' outputs are nested in different ways. Give "
            f"models with the same outputs. Keras says: {error}"
        ) from error
    first, *others = [keras.tree.flatten(outputs) for outputs in said]
    for leaves in others:
        for a, b in zip(first, leaves, strict=True):
            # An axis that a graph leaves open fits any.
            axes = zip(a.shape[1:], b.shape[1:], strict=False)
            unequal = any(m != n for m, n in axes if None not in (m, n))
            if unequal or len(a.shape) != len(b.shape):
                raise ValueError(
                    "`Ensemble`: the members give outputs of different shapes, "
                    f"{tuple(a.shape)} and {tuple(b.shape)}. Give models with the same "
                    "classes, which are the last axis."
                )
