"""Distillation losses by name, from whatever a user gives."""

from keras_dtkd.losses.base import DistillationLoss
from keras_dtkd.losses.dtkd import DTKD
from keras_dtkd.losses.keras_adapter import KerasDistillationLoss

TEMPERATURE_LOG_NAMES = {"student_temperature", "teacher_temperature"}
RESERVED_LOG_NAMES = {
    "loss",
    "task_loss",
    "agreement",
    "accuracy",
    *TEMPERATURE_LOG_NAMES,
}


def resolve_losses(losses):
    """The losses by the names under which they are logged.

    Args:
        losses: `None` (`DTKD()`), one loss, a list, or a dict of names.

    Returns:
        A dict. Losses of one name get a number, from 2.

    Raises:
        TypeError: Something is no loss.
        ValueError: No loss, or a name that the logs need for something else.
    """
    if losses is None:
        losses = DTKD()
    if isinstance(losses, dict):
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
    wrong = RESERVED_LOG_NAMES & set(named)
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
    )


def input_gradient_losses(losses):
    """The losses that need input gradients, by name."""
    return {n: loss for n, loss in losses.items() if loss.input_gradient is not None}


def group_by_output(losses, default=None):
    """The losses of each distilled output.

    Args:
        losses: Distillation losses by name.
        default: The output of losses that name none.

    Returns:
        A dict from the name or index of an output, `None` for the only one, to its
        losses by name. The default is first, also where no loss is for it.
    """
    groups: dict = {} if default is None else {default: {}}
    if any(loss.distilled_output is None for loss in losses.values()):
        groups = {default: {}}
    for name, loss in losses.items():
        key = default if loss.distilled_output is None else loss.distilled_output
        groups.setdefault(key, {})[name] = loss
    return groups
