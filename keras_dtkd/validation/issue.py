"""An issue: one problem with models, data or losses, as data."""

import dataclasses

ERROR, WARNING, INFO = "error", "warning", "info"


@dataclasses.dataclass(frozen=True)
class Issue:
    """One problem, and what to do about it.

    Attributes:
        code: The kind of problem, such as `"permuted_classes"`: the same in every run.
        severity: `"error"` (training would teach something wrong), `"warning"` (it
            would teach badly, or may), or `"info"` (worth knowing).
        message: What was found, with its numbers.
        hint: What to do about it.
    """

    code: str
    severity: str
    message: str
    hint: str = ""

    def __str__(self):
        return f"{self.message} {self.hint}".strip()
