"""One thing that was found."""

from typing import NamedTuple

ERROR, WARNING, INFO = SEVERITIES = ("error", "warning", "note")


class Issue(NamedTuple):
    """One thing that `diagnose` found, and what to do about it.

    Attributes:
        name: What kind of thing, `"permuted_classes"`: the same in every report.
        severity: `"error"` (training would teach something wrong), `"warning"`
            (it would teach badly, or may), or `"note"` (worth knowing).
        message: What was found, with its numbers, and what to do.
    """

    name: str
    severity: str
    message: str
