"""The report of a diagnosis: statistics, and the issues with them."""

import textwrap
from typing import Any

from keras_dtkd.core.issue import ERROR, INFO, WARNING

WIDTH, MISSING = 88, "–"
ROLES = ("teacher", "student")
SEVERITIES = (ERROR, WARNING, INFO)
ISSUE_KEYS = ("code", "severity", "message", "hint")
LOSS_KEYS = ("weight", "value", "to_task", "gradient_norm", "gradient_to_task")
LOSS_HEADER = ["loss", "weight", "value", "to task", "gradient", "to task"]


class Report(dict):
    """What `diagnose` returns: a dict of statistics, and issues with them.

    `report["teacher"]["accuracy"]` looks a statistic up; `print(report)` shows tables.
    The statistics are nested dicts of floats. What cannot be known is left out:

    - `data`: `samples`, `batches`, and `classes`.
    - `inputs`: `given`, `teacher` and `student`, each `min`, `max`, `mean`, `std`: the
      data, and the input of the first layer with weights.
    - `teacher` and `student`: `accuracy`, `calibration_error`, `confidence`, and
      `logits` with `min`, `max`, `mean`, `std` and `shift`.
    - `agreement`: share of samples with the same prediction.
    - `dtkd`: means and minima of the temperatures of DTKD as it is used, else by
      default; `floor`, the student's mean below which it has collapsed; `invalid_share`
      of the samples, on which the published rule is undefined.
    - `task`: `value` and `gradient_norm` of the loss on the labels.
    - `losses`: of each, by name, `value`, `weight`, `gradient_norm` (mean norm of a
      sample's gradient in the student's logits, without the weight; left out for a loss
      that acts on input gradients or inner layers instead), `to_task` and
      `gradient_to_task` (weighted, relative to the task loss).

    Attributes:
        issues: A list of `Issue`, errors first, then warnings.
    """

    def __init__(self, statistics, issues):
        super().__init__(statistics)
        self.issues = sorted(issues, key=lambda i: SEVERITIES.index(i.severity))

    @property
    def is_healthy(self):
        """Whether there is no error and no warning."""
        return all(issue.severity == INFO for issue in self.issues)

    def to_dict(self):
        """Everything, for JSON: `statistics`, `issues` and `is_healthy`."""
        issues = [{key: getattr(i, key) for key in ISSUE_KEYS} for i in self.issues]
        healthy = self.is_healthy
        return {"statistics": dict(self), "issues": issues, "is_healthy": healthy}

    def __repr__(self):
        codes = [issue.code for issue in self.issues]
        return f"Report(is_healthy={self.is_healthy}, issues={codes})"

    def __str__(self):
        sizes = self.get("data", {}).items()
        lines = [", ".join(f"{value:g} {name}" for name, value in sizes)]
        for table in self._tables():
            width = max(len(name) for name, *_ in table)
            for name, *cells in table:
                lines.append(f"{name:<{width}}" + "".join(f"{c:>12}" for c in cells))
            lines.append("")
        for issue in self.issues:
            line = f"{issue.severity}: {issue.code}: {issue}"
            lines += textwrap.wrap(line, WIDTH, subsequent_indent="    ")
        if not self.issues:
            lines.append("No issues found.")
        return "\n".join(lines)

    def _tables(self):
        """Tables that are not empty: rows of text, the first a header."""
        paths: dict = {}
        for name in ("accuracy", "calibration_error", "confidence"):
            paths[name.replace("_", " ")] = [(role, name) for role in ROLES]
        for name in ("min", "max", "mean", "std", "shift"):
            paths[f"logits: {name}"] = [(role, "logits", name) for role in ROLES]
        for name in ("min", "max", "mean", "std"):
            paths[f"inputs: {name}"] = [("inputs", role, name) for role in ROLES]
        for name in ("mean", "min"):
            keys = [f"{role}_temperature_{name}" for role in ROLES]
            paths[f"DTKD temperature: {name}"] = [("dtkd", k) for k in keys]
        paths["agreement"] = [("agreement",)]
        paths["published DTKD rule undefined on"] = [("dtkd", "invalid_share")]
        losses: dict = {"task": [("task", key) for key in LOSS_KEYS]}
        for name in self.get("losses", ()):
            losses[name] = [("losses", name, key) for key in LOSS_KEYS]
        tables = [[["", *ROLES]], [LOSS_HEADER]]
        for table, rows in zip(tables, (paths, losses), strict=True):
            cells = [[name, *map(self._cell, row)] for name, row in rows.items()]
            table += [row for row in cells if set(row[1:]) != {MISSING}]
        return [table for table in tables if len(table) > 1]

    def _cell(self, path):
        value: Any = self
        for key in path:
            value = value.get(key, {})
        return f"{value:.4g}" if isinstance(value, float) else MISSING
