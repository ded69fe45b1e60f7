"""Distillation losses by name, from whatever a user gives."""

import collections.abc

from keras_dtkd.losses.base import DistillationLoss
from keras_dtkd.losses.dtkd import DTKD
from keras_dtkd.losses.keras_adapter import KerasDistillationLoss


class NamedLosses(collections.abc.MutableMapping):
    """A Distiller's losses by name, or by place: `losses["kd"]`, `losses[0]`.

    Args:
        losses: Keras's own dict of them, which tracks what is put into it.
    """

    def __init__(self, losses):
        self._losses = losses

    def __getitem__(self, key):
        is_place = isinstance(key, int) and key not in self._losses
        return list(self._losses.values())[key] if is_place else self._losses[key]

    def __setitem__(self, name, loss):
        self._losses[name] = loss

    def __delitem__(self, name):
        # Keras forgets what is popped.
        self._losses.pop(name)

    def __iter__(self):
        return iter(self._losses)

    def __len__(self):
        return len(self._losses)

    def __repr__(self):
        return repr(dict(self._losses))


RESERVED_LOG_NAMES = {
    "loss",
    "learning_rate",
    "task_loss",
    "agreement",
    "accuracy",
    "student_temperature",
    "teacher_temperature",
}


def resolve_losses(losses):
    """The losses by the names under which they are logged.

    `losses` are `None` (`DTKD()`), one loss, a list, or a dict of names. Losses of one
    name get a number, from 2.
    """
    if losses is None:
        losses = DTKD()
    if isinstance(losses, collections.abc.Mapping):
        named = {name: _resolve_loss(loss) for name, loss in losses.items()}
    else:
        named = {}
        for loss in losses if isinstance(losses, list | tuple) else [losses]:
            loss = _resolve_loss(loss)
            name, number = loss.name, 1
            while name in named:
                number += 1
                name = f"{loss.name}_{number}"
            named[name] = loss
    if not named:
        raise ValueError("`Distiller`: `distillation_losses` is empty. Give one loss.")
    wrong = {
        name
        for name in named
        # `fit` logs what begins with `val_` of validation data.
        if name in RESERVED_LOG_NAMES or str(name).startswith("val_")
    }
    if wrong:
        raise ValueError(
            f"`Distiller`: a distillation loss may not be called {wrong.pop()!r}, "
            "which the logs need for something else. Give it another name."
        )
    return named


def _resolve_loss(loss):
    if isinstance(loss, DistillationLoss):
        return loss
    if callable(getattr(loss, "compute_loss", None)) and not isinstance(loss, type):
        return KerasDistillationLoss(loss)
    raise TypeError(
        "`Distiller`: `distillation_losses` must be a `keras_dtkd.losses."
        "DistillationLoss`, a `keras.distillation.DistillationLoss`, or a list or dict "
        f"of them. Received: {loss!r}."
        + (" That is the class: call it." if isinstance(loss, type) else "")
        + (" Give the loss itself: `losses.KD()`." if isinstance(loss, str) else "")
    )


def group_by_output(losses, default=None):
    """The losses by name of each distilled output, by its name or index.

    `default` is the output of losses that name none, `None` for the only one. It is
    first, also where no loss is for it. Losses that neither name nor compare outputs
    are left out, unless there are no others.
    """
    groups: dict = {} if default is None else {default: {}}
    needing = {n: loss for n, loss in losses.items() if needs_output(loss)}
    losses = losses if default is None and not needing else needing
    if any(loss.distilled_output is None for loss in losses.values()):
        groups = {default: {}}
    for name, loss in losses.items():
        key = default if loss.distilled_output is None else loss.distilled_output
        groups.setdefault(key, {})[name] = loss
    return groups


def needs_output(loss):
    """Whether a loss compares outputs, or names one."""
    return loss.compares_outputs or loss.distilled_output is not None
