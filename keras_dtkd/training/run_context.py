"""What is known of the run that a Distiller is in."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class RunContext:
    """Of the current or latest run. Replaced as a whole, between steps.

    Attributes:
        is_fitting: Whether a `fit` is running.
        is_evaluating: Whether the metrics are those of `evaluate`.
        train_has_labels: Whether the training data has labels.
        eval_has_labels: Whether the evaluated data has labels.
        held_out: `(x, y)`, what a part of the Distiller has had held out of the
            training data; or `None`.
    """

    is_fitting: bool = False
    is_evaluating: bool = False
    train_has_labels: bool = True
    eval_has_labels: bool = True
    held_out: Any = None
