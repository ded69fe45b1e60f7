"""All that was found, to be read, or to be looked up."""

import collections.abc
import textwrap

from keras_dtkd.validation.issue import INFO, SEVERITIES

WIDTH = 88
ROLES = ("teacher", "student")


class Report(collections.abc.Mapping):
    """What `diagnose` returns: figures, and findings about them.

    `report["teacher"]["accuracy"]` looks a figure up, `print(report)` shows all in a
    table.

    Args:
        figures: Nested dicts of floats, by text.
        findings: A list of `Finding`.

    Attributes:
        figures: What cannot be known is left out.

            - `data`: `samples`, `batches`, and `classes`.
            - `inputs`: `given`, `teacher` and `student`, each `min`, `max`, `mean`,
              `std`: the data, and what reaches the first layer that learns.
            - `teacher` and `student`: `accuracy`, `calibration_error`, `confidence`,
              and `logits` with `min`, `max`, `mean`, `std` and `shift`.
            - `agreement`: share of samples with the same first choice.
            - `dtkd`: `invalid_share`, `floor`, means and least values of the
              temperatures.
            - `task`: `value` and `gradient_norm` of the loss on the labels.
            - `losses`: of each, by name, `value`, `weight`, `gradient_norm` (mean norm
              of a sample's gradient in the student's logits, without the weight; left
              out of a loss that acts on input gradients or inner layers instead),
              `to_task` and `gradient_to_task` (weighted, in units of the task's).
        findings: The worst first.
    """

    def __init__(self, figures, findings):
        self.figures = figures
        self.findings = sorted(findings, key=lambda f: SEVERITIES.index(f.severity))

    @property
    def healthy(self):
        """Whether there is no error and no warning."""
        return all(finding.severity == INFO for finding in self.findings)

    def as_dict(self):
        """Everything, for JSON: `figures`, `findings` and `healthy`."""
        findings = [finding._asdict() for finding in self.findings]
        return {
            "figures": self.figures,
            "findings": findings,
            "healthy": self.healthy,
        }

    def __getitem__(self, name):
        return self.figures[name]

    def __iter__(self):
        return iter(self.figures)

    def __len__(self):
        return len(self.figures)

    def __repr__(self):
        names = [finding.name for finding in self.findings]
        return f"Report(healthy={self.healthy}, findings={names})"

    def __str__(self):
        parts = [self._heading(), *self._models(), *self._terms(), *self._told()]
        return "\n".join(parts)

    def _heading(self):
        data = self.figures.get("data", {})
        return ", ".join(f"{value:g} {name}" for name, value in data.items())

    def _models(self):
        sides = [self.figures.get(role, {}) for role in ROLES]
        lines = [
            (name.replace("_", " "), [side.get(name) for side in sides])
            for name in ("accuracy", "calibration_error", "confidence")
        ]
        logits = [side.get("logits", {}) for side in sides]
        inputs = [self.figures.get("inputs", {}).get(role, {}) for role in ROLES]
        for group, inner in (("logits", logits), ("inputs", inputs)):
            for name in ("min", "max", "mean", "std", "shift"):
                values = [side.get(name) for side in inner]
                lines.append((f"{group}: {name}", values))
        temperatures = self.figures.get("dtkd", {})
        for what in ("mean", "min"):
            values = [temperatures.get(f"{role}_temperature_{what}") for role in ROLES]
            lines.append((f"published DTKD temperature: {what}", values))
        known = [line for line in lines if any(v is not None for v in line[1])]
        if known:
            known = [("", list(ROLES)), *known]
        single = {
            "agreement": self.figures.get("agreement"),
            "published DTKD rule undefined on": temperatures.get("invalid_share"),
        }
        known += [(n, [v]) for n, v in single.items() if v is not None]
        return _table(known)

    def _terms(self):
        losses = dict(self.figures.get("losses", {}))
        if not losses:
            return []
        if "task" in self.figures:
            losses = {"task": self.figures["task"], **losses}
        columns = {
            "weight": "weight",
            "value": "value",
            "to_task": "to task",
            "gradient_norm": "gradient",
            "gradient_to_task": "to task",
        }
        rows = [
            (name, [own.get(column) for column in columns])
            for name, own in losses.items()
        ]
        return ["", *_table([("loss", list(columns.values())), *rows])]

    def _told(self):
        if not self.findings:
            return ["", "Nothing found."]
        lines = [""]
        for name, severity, message in self.findings:
            lines += textwrap.wrap(
                f"{severity}: {name}: {message}", WIDTH, subsequent_indent="    "
            )
        return lines


def _table(rows):
    """Lines of a table: names on the left, columns of equal width."""
    if not rows:
        return []
    left = max(len(name) for name, _ in rows)
    return [
        f"{name:<{left}}" + "".join(f"{_cell(value):>12}" for value in values)
        for name, values in rows
    ]


def _cell(value):
    if value is None:
        return "–"
    return value if isinstance(value, str) else f"{value:.4g}"
