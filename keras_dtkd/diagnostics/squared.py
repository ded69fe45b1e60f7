"""A custom loss that softens by T and forgets to multiply by T²."""

import contextlib
import numbers
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_dtkd.diagnostics import loss_gradients
from keras_dtkd.diagnostics.looking import losses_of
from keras_dtkd.functional.divergences import DIVERGENCES
from keras_dtkd.losses.kd import KD
from keras_dtkd.losses.keras_adapter import KerasDistillationLoss
from keras_dtkd.temperatures.base import Temperature
from keras_dtkd.temperatures.constant import Constant
from keras_dtkd.validation.issue import ERROR, INFO, WARNING, Issue

# Gradients of one direction: where the loss says its temperature, and where that
# must be found out by trying.
SAME, EXACTLY_SAME = 0.95, 0.999
# How close to 1/T² the ratio of the gradients is where nothing but T² is missing.
CLOSE = 0.2
# Temperatures that are tried. 1, at which nothing can be forgotten, is among them, so
# that a loss without a temperature finds itself there. Neighbours lie close enough
# for the ratio of a temperature between them. At the last all differences of logits
# look alike.
GRID = (1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 30, 40)
# What is forgotten must be more than the tolerance.
LEAST = 2.0
# A weight of this share of T² makes up for it.
MADE_UP = 0.5
# Two batches tell a direction; each costs a gradient a temperature.
BATCHES = 2
# So many times the greatest logit, softened distributions are a straight line.
FLAT = 8.0
# Where the temperature is doubled, a gradient that lacks T² falls to a quarter, one
# that lacks T to a half.
FALLS = 3.0


class Forgotten(NamedTuple):
    """What a loss lacks.

    Attributes:
        weight: T², or the mean weight of a rule.
        share: What is left of it, where that is known.
        severity: Of the finding.
    """

    weight: float
    share: float | None
    severity: str


def findings(made, batches, pulls):
    """Losses whose gradient is that of `KD` less the factor T².

    Only losses that are not this library's own: those keep T² or say why not. One
    whose `weight` makes up for it is left alone.

    Args:
        made: The Distiller.
        batches: A list of `Batch`.
        pulls: Gradients of each loss by name, one a batch.

    Returns:
        A list.
    """
    told = []
    grids: dict = {}
    batches = batches[:BATCHES]
    for name, loss in losses_of(made).items():
        if not _custom(loss):
            continue
        steps = [batch.steps[name] for batch in batches]
        tasks = [loss_gradients.towards_labels(step) for step in steps]
        own = loss_gradients.rest(pulls[name], tasks)
        obeys, forgotten = _doubled(made, loss, steps, tasks, own)
        if not obeys:
            # Losses for one view see the same steps.
            grid = grids.setdefault(loss.view, {})
            forgotten = _declared(made, loss, steps, tasks, own)
            forgotten = forgotten or _nearest(made, grid, steps, tasks, own)
        if forgotten and float(loss.scale) < MADE_UP * forgotten.weight:
            told.append(_finding(name, loss, forgotten))
    return told


def _custom(loss):
    return isinstance(loss, KerasDistillationLoss) or not type(
        loss
    ).__module__.startswith("keras_dtkd.")


def _inner(loss):
    return loss.loss if isinstance(loss, KerasDistillationLoss) else loss


def _doubled(made, loss, steps, tasks, own):
    """Whether the loss obeys its temperature, and what it lacks if that is doubled."""
    holder = _inner(loss)
    if isinstance(getattr(holder, "temperature", None), Constant):
        holder = holder.temperature
    before = getattr(holder, "temperature", None)
    if not isinstance(before, numbers.Real) or float(before) ** 2 < LEAST:
        return False, None
    greatest = max(float(ops.max(ops.abs(step.student_logits))) for step in steps)
    high = max(FLAT * greatest, 2 * float(before))
    try:
        pulls = [
            _at(made, loss, holder, temperature, steps, tasks)
            for temperature in (high, 2 * high)
        ]
    except (AttributeError, TypeError, ValueError):
        # Not to be set, or not to any number.
        return False, None
    finally:
        with contextlib.suppress(AttributeError):
            holder.temperature = before
    first, second = (loss_gradients.size(pull) for pull in pulls)
    same = np.allclose(np.ravel(own[0]), np.ravel(pulls[0][0]), rtol=1e-4, atol=0)
    if same or not second or not np.isfinite([first, second]).all():
        return False, None
    weight = float(before) ** 2
    return True, Forgotten(weight, None, ERROR) if first > FALLS * second else None


def _at(made, loss, holder, temperature, steps, tasks):
    holder.temperature = temperature
    return loss_gradients.rest(
        [loss_gradients.of_loss(made, loss, step) for step in steps], tasks
    )


def _declared(made, loss, steps, tasks, own):
    """What a loss lacks that has a temperature."""
    temperature = getattr(_inner(loss), "temperature", None)
    number = isinstance(temperature, numbers.Real) and float(temperature) > 0
    if not number and not isinstance(temperature, Temperature):
        return None
    for divergence in DIVERGENCES:
        kd = KD(temperature, divergence)
        with keras.StatelessScope():
            weights = [_weights(kd.temperature, step) for step in steps]
        pulls = [loss_gradients.of_loss(made, kd, step) for step in steps]
        kd.temperature.take_latest()
        weight = float(np.mean([part.mean() for part in weights]))
        # A rule may give each sample a weight of its own.
        pulls = [p / part[..., None] for p, part in zip(pulls, weights, strict=True)]
        cosine, share = loss_gradients.match(own, loss_gradients.rest(pulls, tasks))
        if weight >= LEAST and cosine >= SAME:
            return _judged(weight, share, WARNING)
    return None


def _weights(rule, step):
    t = rule(step.student_logits, step.teacher_logits)
    weight = ops.convert_to_numpy(ops.stop_gradient(t.weight))
    return np.broadcast_to(weight, step.student_logits.shape[:-1])


def _nearest(made, grid, steps, tasks, own):
    """As `_declared`, of the temperature at which `KD` pulls most nearly likewise."""
    for divergence in DIVERGENCES:
        if divergence not in grid:
            grid[divergence] = _grid(made, divergence, steps)
        found = {
            temperature: loss_gradients.match(own, loss_gradients.rest(pulls, tasks))
            for temperature, pulls in grid[divergence].items()
        }
        best = max(found, key=lambda temperature: found[temperature][0])
        cosine, share = found[best]
        weight = float(best) ** 2
        if cosine >= EXACTLY_SAME:
            # A small factor may be meant.
            doubtful = INFO if best < GRID[-1] else None
            return (
                _judged(weight, weight * share, doubtful) if weight >= LEAST else None
            )
    return None


def _grid(made, divergence, steps):
    """How `KD` pulls at each temperature of the grid."""
    kd, found = KD(1.0, divergence), {}
    for temperature in GRID:
        kd.temperature = temperature
        found[temperature] = [loss_gradients.of_loss(made, kd, step) for step in steps]
    return found


def _judged(weight, share, doubtful):
    if abs(share - 1) < CLOSE:
        return Forgotten(weight, share, ERROR)
    if 0 < share < 1 and doubtful:
        return Forgotten(weight, share, doubtful)
    return None


def _finding(name, loss, found):
    weight, share, severity = found
    temperature = f"a temperature of {np.sqrt(weight):.3g}"
    what = (
        f"`{name}`, with {temperature}, pulls a quarter as hard where that is doubled"
        if share is None
        else f"`{name}` pulls as `KD` does at {temperature}, but "
        f"1/{weight / share:.3g} as hard"
    )
    meant = (
        ""
        if severity == ERROR
        else " If it is an average over the classes, take their sum. If its factor is "
        "meant to be so small, this is no fault."
    )
    return Issue(
        "t_squared_forgotten",
        severity,
        f"{what}: its gradient shrinks by 1/T², and nothing makes up for it (weight "
        f"{float(loss.scale):.3g}). Multiply the loss by T², or by the rule's `weight`."
        f"{meant}",
    )
