"""An issue: one problem with models, data or losses, as data."""

import dataclasses
import inspect
import os
import re
import textwrap
import warnings
from pathlib import Path

ERROR, WARNING, INFO = "error", "warning", "info"
PACKAGE = str(Path(__file__).parents[1]) + os.sep


@dataclasses.dataclass(frozen=True)
class Issue:
    """One problem, and what to do about it.

    Attributes:
        code: The kind of problem, such as `"permuted_classes"`: the same in every run.
        severity: `"error"` (training would fail or teach something wrong), `"warning"`
            (it would teach badly, or may), or `"info"` (worth knowing).
        message: What was found, with its numbers.
        hint: What to do about it.
        cause: The exception that showed the problem, if any.
    """

    code: str
    severity: str
    message: str
    hint: str = ""
    cause: BaseException | None = dataclasses.field(
        default=None, compare=False, repr=False
    )

    def __str__(self):
        return f"{self.message} {self.hint}".strip()


# Colors; and what Keras puts before the error of a layer that it traces.
NOISE = re.compile(
    r"\x1b\[\d*m|Could not automatically infer the output shape .*?Error encountered: "
)


def describe_error(error):
    """The message of an exception in one line, shortened, without values."""
    text = NOISE.sub("", " ".join(str(error).split()))
    text = re.sub(r"tensor\(\[.*?\](, [^)]*)?\)", "tensor", text)
    return textwrap.shorten(text, 400, placeholder=" ...")


def has_errors(issues):
    """Whether an issue is an error."""
    return any(issue.severity == ERROR for issue in issues)


def report_issues(issues, reported=()):
    """Warns of the warnings among issues, then raises the first error.

    Not of those that were `reported` before. Returns `issues`.
    """
    new = [issue for issue in issues if issue not in reported]
    for issue in new:
        if issue.severity == WARNING:
            # The first frame outside of this package.
            frames = enumerate(inspect.stack(0), start=1)
            levels = (i for i, f in frames if not f.filename.startswith(PACKAGE))
            warnings.warn(str(issue), stacklevel=next(levels, 1))
    for issue in new:
        if issue.severity == ERROR:
            raise ValueError(str(issue)) from issue.cause
    return issues
