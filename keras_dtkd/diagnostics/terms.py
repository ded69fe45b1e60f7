"""How much each loss says, and how hard it pulls, beside the task loss."""

import numpy as np

from keras_dtkd.diagnostics import loss_gradients
from keras_dtkd.diagnostics.looking import ITSELF, losses_of
from keras_dtkd.losses.base import DistillationLoss
from keras_dtkd.losses.kd import KD
from keras_dtkd.losses.keras_adapter import KerasDistillationLoss
from keras_dtkd.validation.issue import ERROR, INFO, WARNING, Issue

# A gradient so small is none: no loss with a weight in use comes near.
NOTHING = 1e-12
# Teacher and student differ by less than this where KD itself has no gradient.
EQUAL = 1e-6
# Beyond this ratio either way, one of two gradients hardly matters.
UNBALANCED = 100.0


def measure(made, batches, has_task):
    """Values and gradients of the task and of each loss.

    Args:
        made: The Distiller.
        batches: A list of `Batch`.
        has_task: Whether there is a task loss.

    Returns:
        `(figures, pulls)`: `{"task": …, "losses": {name: …}}`, and the gradients of
        each loss, one a batch, by name.
    """
    pulls = {
        name: [loss_gradients.of_loss(made, loss, b.steps[name]) for b in batches]
        for name, loss in losses_of(made).items()
    }
    found: dict = {"losses": {}}
    if has_task:
        both = [loss_gradients.of_task(made, b, b.steps[ITSELF]) for b in batches]
        found["task"] = {
            "value": float(np.mean([value for value, _ in both])),
            "gradient_norm": loss_gradients.size([pull for _, pull in both]),
        }
    for name, loss in losses_of(made).items():
        value = float(np.mean([batch.values[name] for batch in batches]))
        norm, scale = loss_gradients.size(pulls[name]), float(loss.scale)
        if _acts_inside(loss) and norm <= NOTHING:
            norm = None
        own = {"value": value, "weight": scale, "gradient_norm": norm}
        if "task" in found:
            task = found["task"]
            own["to_task"] = _ratio(scale * value, task["value"])
            if norm is not None:
                own["gradient_to_task"] = _ratio(scale * norm, task["gradient_norm"])
        found["losses"][name] = {k: v for k, v in own.items() if v is not None}
    return found, pulls


def _ratio(one, other):
    return one / other if other else None


def findings(made, found, batches, labelled):
    """Losses that are not finite, pull at nothing or unseen, or drown another.

    Args:
        made: The Distiller.
        found: What `measure` gave.
        batches: A list of `Batch`.
        labelled: Whether any sample has a label.

    Returns:
        A list.
    """
    told = []
    for name, loss in losses_of(made).items():
        own = found["losses"][name]
        norm = own.get("gradient_norm")
        if not np.isfinite([own["value"], norm or 0.0]).all():
            told.append(_not_finite(name, own))
        elif norm is None:
            told.append(_not_measured(name, loss))
        elif norm <= NOTHING and _of_logits(loss) and _apart(made, name, batches):
            unlabelled = loss.needs_labels and not labelled
            told.append(_pulls_at_nothing(name, unlabelled))
        elif "gradient_to_task" in own and (norm > NOTHING or _of_logits(loss)):
            told += _unbalanced(name, own)
    return told


def _apart(made, name, batches):
    """Whether there is anything to teach: equal models need no gradient."""
    kd = KD()
    pulls = [loss_gradients.of_loss(made, kd, batch.steps[name]) for batch in batches]
    return loss_gradients.size(pulls) > EQUAL


def _of_logits(loss):
    """Whether all that a loss can teach reaches the student through its logits."""
    if _acts_inside(loss):
        return False
    own = type(loss).compute is not DistillationLoss.compute
    return isinstance(loss, KerasDistillationLoss) or not own


def _acts_inside(loss):
    """Whether it pulls at the student's weights past its logits."""
    return bool(loss.student_layers) or loss.input_gradient is not None


def _not_measured(name, loss):
    through = "inner layers" if loss.input_gradient is None else "weights"
    return Issue(
        "not_measured",
        INFO,
        f"`{name}` acts through the student's {through}, not through its logits, at "
        "which gradients are compared here: how hard it pulls is not measured. That is "
        "no sign that it does nothing.",
    )


def _not_finite(name, own):
    norm = own.get("gradient_norm")
    pull = "" if norm is None else f", and its gradient the norm {norm:.3g}"
    return Issue(
        "not_finite",
        ERROR,
        f"`{name}` has the value {own['value']:.3g}{pull}. Look for a logarithm, root "
        "or division at 0 in it: `log_softmax` instead of `log(softmax)`, a small "
        "number inside a root.",
    )


def _pulls_at_nothing(name, unlabelled):
    remedy = (
        "It needs labels, and none of the samples has one that names a class: give "
        "labels, or use a loss that needs none."
        if unlabelled
        else "Look for an `argmax`, `argsort`, comparison or `stop_gradient` between "
        "the logits and its value, or for a student that gives a constant."
    )
    return Issue(
        "zero_gradient",
        WARNING,
        f"`{name}` has no gradient in the student's logits: it teaches nothing. "
        f"{remedy}",
    )


def _unbalanced(name, own):
    ratio = own["gradient_to_task"]
    if not own["weight"] or 1 / UNBALANCED <= ratio <= UNBALANCED:
        return []
    return [
        Issue(
            "unbalanced",
            INFO,
            f"The gradient of `{name}`, weighted, is {ratio:.3g} times that of the "
            "task loss: one of them hardly counts. If that is not meant, change the "
            "loss's `weight`, or `task_weight`.",
        )
    ]
