"""What travels with the labels of a batch."""

from typing import Any, NamedTuple


class Told(NamedTuple):
    """Labels, and the values of the teacher's variables, on the way into a step."""

    y: Any
    teacher_values: Any
