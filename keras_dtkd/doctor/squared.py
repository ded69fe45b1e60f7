"""A custom loss that softens by T and forgets to multiply by T²."""

import numbers

import keras
import numpy as np
from keras import ops

from keras_dtkd.doctor import gradients
from keras_dtkd.doctor.findings import ERROR, Finding
from keras_dtkd.doctor.looking import losses_of
from keras_dtkd.losses.foreign import Foreign
from keras_dtkd.losses.kd import KD
from keras_dtkd.temperatures.base import Temperature

# Gradients of one direction: where the loss says its temperature, and where that
# must be found out by trying.
SAME, EXACTLY_SAME = 0.95, 0.99
# How close to 1/T² the ratio of the gradients is.
CLOSE = 0.2
# Temperatures that are tried. 1, at which nothing can be forgotten, is among them, so
# that a loss without a temperature finds itself there. Neighbours lie close enough
# for the ratio of a temperature between them.
GRID = (1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20)
# What is forgotten must be more than the tolerance.
LEAST = 2.0
# A weight of this share of T² makes up for it.
MADE_UP = 0.5
# Two batches tell a direction; each costs a gradient a temperature.
BATCHES = 2


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
    told, grids = [], {}
    batches = batches[:BATCHES]
    for name, loss in losses_of(made).items():
        if not _custom(loss):
            continue
        own = pulls[name][: len(batches)]
        steps = [batch.steps[name] for batch in batches]
        forgotten = _declared(made, loss, steps, own)
        if not forgotten:
            # Losses for one view see the same steps.
            if loss.view not in grids:
                grids[loss.view] = _grid(made, steps)
            forgotten = _nearest(grids[loss.view], own)
        if forgotten and float(loss.scale) < MADE_UP * forgotten[1]:
            told.append(_finding(name, loss, *forgotten))
    return told


def _custom(loss):
    return isinstance(loss, Foreign) or not type(loss).__module__.startswith(
        "keras_dtkd."
    )


def _declared(made, loss, steps, own):
    """`(temperature, weight)` if the loss has a temperature and not its weight."""
    inner = loss.loss if isinstance(loss, Foreign) else loss
    temperature = getattr(inner, "temperature", None)
    number = isinstance(temperature, numbers.Real) and float(temperature) > 0
    if not number and not isinstance(temperature, Temperature):
        return None
    kd = KD(temperature)
    rule = kd.temperature
    with keras.StatelessScope():
        weight = np.mean([_weight(rule, step) for step in steps])
    reference = [gradients.of_loss(made, kd, step) for step in steps]
    rule.take_latest()
    if weight < LEAST or not _shrunk(own, reference, weight, SAME):
        return None
    return float(np.sqrt(weight)), float(weight)


def _weight(rule, step):
    t = rule(step.student_logits, step.teacher_logits)
    return float(np.mean(ops.convert_to_numpy(ops.stop_gradient(t.weight))))


def _grid(made, steps):
    """How `KD` pulls at each temperature of the grid."""
    kd, found = KD(1.0), {}
    for temperature in GRID:
        kd.temperature = temperature
        found[temperature] = [gradients.of_loss(made, kd, step) for step in steps]
    return found


def _nearest(grid, own):
    """As `_declared`, of the temperature at which `KD` pulls most nearly likewise."""
    best = max(grid, key=lambda temperature: gradients.cosine(own, grid[temperature]))
    weight = float(best) ** 2
    if weight < LEAST or not _shrunk(own, grid[best], weight, EXACTLY_SAME):
        return None
    return float(best), weight


def _shrunk(own, reference, weight, same):
    whole = gradients.size(reference)
    if not whole or gradients.cosine(own, reference) < same:
        return False
    return abs(weight * gradients.size(own) / whole - 1) < CLOSE


def _finding(name, loss, temperature, weight):
    return Finding(
        "t_squared_forgotten",
        ERROR,
        f"`{name}` pulls as `KD` does at a temperature of {temperature:.3g}, but "
        f"1/{weight:.3g} as hard: its gradient shrinks by 1/T², and nothing makes up "
        f"for it (weight {float(loss.scale):.3g}). Multiply the loss by T², or by the "
        "rule's `weight`.",
    )
