"""The report of a diagnosis: statistics, and the issues with them."""

import collections.abc
import textwrap

from keras_dtkd.validation.issue import ERROR, INFO, WARNING

WIDTH = 88
ROLES = ("teacher", "student")
SEVERITY_STYLES = {ERROR: "bold red", WARNING: "bold yellow", INFO: "bold blue"}


class Report(collections.abc.Mapping):
    """What `diagnose` returns: statistics, and issues with them.

    `report["teacher"]["accuracy"]` looks a statistic up; `print(report)`, or
    `rich.print(report)`, shows tables.

    Attributes:
        statistics: Nested dicts of floats. What cannot be known is left out.

            - `data`: `samples`, `batches`, and `classes`.
            - `inputs`: `given`, `teacher` and `student`, each `min`, `max`, `mean`,
              `std`: the data, and the input of the first layer with weights.
            - `teacher` and `student`: `accuracy`, `calibration_error`, `confidence`,
              and `logits` with `min`, `max`, `mean`, `std` and `shift`.
            - `agreement`: share of samples with the same prediction.
            - `dtkd`: `invalid_share`, `floor`, means and minima of the temperatures.
            - `task`: `value` and `gradient_norm` of the loss on the labels.
            - `losses`: of each, by name, `value`, `weight`, `gradient_norm` (mean norm
              of a sample's gradient in the student's logits, without the weight; left
              out for a loss that acts on input gradients or inner layers instead),
              `to_task` and `gradient_to_task` (weighted, relative to the task loss).
        issues: A list of `Issue`, errors first, then warnings.
    """

    def __init__(self, statistics, issues):
        self.statistics = statistics
        order = list(SEVERITY_STYLES)
        self.issues = sorted(issues, key=lambda issue: order.index(issue.severity))

    @property
    def is_healthy(self):
        """Whether there is no error and no warning."""
        return all(issue.severity == INFO for issue in self.issues)

    def as_dict(self):
        """Everything, for JSON: `statistics`, `issues` and `is_healthy`."""
        return {
            "statistics": self.statistics,
            "issues": [vars(issue) for issue in self.issues],
            "is_healthy": self.is_healthy,
        }

    def __getitem__(self, name):
        return self.statistics[name]

    def __iter__(self):
        return iter(self.statistics)

    def __len__(self):
        return len(self.statistics)

    def __repr__(self):
        codes = [issue.code for issue in self.issues]
        return f"Report(is_healthy={self.is_healthy}, issues={codes})"

    def __str__(self):
        lines = [self._header()]
        for table in self._tables():
            width = max(len(name) for name, *_ in table)
            for name, *cells in table:
                lines.append(f"{name:<{width}}" + "".join(f"{c:>12}" for c in cells))
            lines.append("")
        for severity, text in self._issue_lines():
            lines += textwrap.wrap(
                f"{severity}: {text}", WIDTH, subsequent_indent="    "
            )
        return "\n".join(lines)

    def __rich__(self):
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        shown: list = [Text(self._header())]
        for (corner, *columns), *rows in self._tables():
            table = Table(corner, box=box.SIMPLE_HEAD, pad_edge=False)
            for column in columns:
                table.add_column(column, justify="right")
            for row in rows:
                table.add_row(*map(Text, row))
            shown.append(table)
        issues = Table.grid(padding=(0, 1))
        for severity, text in self._issue_lines():
            style = SEVERITY_STYLES.get(severity, "bold green")
            issues.add_row(Text(severity, style), Text(text))
        return Group(*shown, issues)

    def _header(self):
        data = self.statistics.get("data", {})
        return ", ".join(f"{value:g} {name}" for name, value in data.items())

    def _tables(self):
        """Tables that are not empty: rows of text, a header first."""
        columns = ["loss", "weight", "value", "to task", "gradient", "to task"]
        tables = ([["", *ROLES], *self._model_rows()], [columns, *self._loss_rows()])
        return [table for table in tables if len(table) > 1]

    def _model_rows(self):
        models = [self.statistics.get(role, {}) for role in ROLES]
        logits = [model.get("logits", {}) for model in models]
        inputs = [self.statistics.get("inputs", {}).get(role, {}) for role in ROLES]
        dtkd = self.statistics.get("dtkd", {})
        rows = {
            name.replace("_", " "): [model.get(name) for model in models]
            for name in ("accuracy", "calibration_error", "confidence")
        }
        for group, ranges in (("logits", logits), ("inputs", inputs)):
            for name in ("min", "max", "mean", "std", "shift"):
                rows[f"{group}: {name}"] = [values.get(name) for values in ranges]
        for name in ("mean", "min"):
            values = [dtkd.get(f"{role}_temperature_{name}") for role in ROLES]
            rows[f"published DTKD temperature: {name}"] = values
        rows["agreement"] = [self.statistics.get("agreement")]
        rows["published DTKD rule undefined on"] = [dtkd.get("invalid_share")]
        return [
            [name, *map(_format, values)]
            for name, values in rows.items()
            if any(value is not None for value in values)
        ]

    def _loss_rows(self):
        losses = dict(self.statistics.get("losses", {}))
        if losses and "task" in self.statistics:
            losses = {"task": self.statistics["task"], **losses}
        keys = ("weight", "value", "to_task", "gradient_norm", "gradient_to_task")
        return [
            [name, *(_format(measured.get(key)) for key in keys)]
            for name, measured in losses.items()
        ]

    def _issue_lines(self):
        """Pairs of a severity and the text of an issue."""
        lines = [(issue.severity, f"{issue.code}: {issue}") for issue in self.issues]
        return lines or [("healthy", "No issues found.")]


def _format(value):
    return "–" if value is None else f"{value:.4g}"


def print_report(report):
    """Prints the report's tables by `rich`, or as plain text where it is missing."""
    try:
        from rich.console import Console
    except ImportError:
        print(report)
    else:
        Console().print(report)
