"""One table of runs: a row per method and backend, with statistics over seeds."""

import collections
import itertools
import re
import statistics

from keras_dtkd import recipes
from keras_dtkd.cli import comparability
from keras_dtkd.core.user_code import is_reference, to_file_name

# With the varying settings, these identify a row.
KEY_COLUMNS = ("method", "backend")
METRIC_COLUMNS = ("seeds", "best (%)", "last (%)", "ms/step", "GB", "params")
EVALUATION_NOTE = {
    "validation": "best: the epoch of the best accuracy on the validation images "
    "({:g} of the training images); its accuracy on the test images",
    "test": "best: the epoch of the best accuracy on the test images, chosen on them, "
    "as in the literature; it is biased upwards",
}


def build_table(runs):
    """Builds the table of the contents of run.json files.

    Returns:
        Plain data. `teachers` are the teachers' accuracies by name, where they are
        known. `common` are the settings shared by all runs, `varying` the names of
        the others, `rows` a dict for each row, `notes` sentences that qualify it. The
        `part` of a row is a number if runs of its settings differ in recipe, versions
        or device, else `None`.
    """
    groups, values = group_runs(runs), _setting_values(runs)
    rows = [{**key, **_statistics(dedupe_seeds(group))} for key, group in groups]
    notes = [*_notes(runs, rows), *_group_notes(groups)]
    teachers = _teacher_accuracies(runs)
    notes += [
        f"teacher {name}: {100 * accuracy:.2f} % on the test images"
        for name, accuracy in teachers.items()
    ]
    return {
        **({"teachers": teachers} if teachers else {}),
        "common": {n: (v or [None])[0] for n, v in values.items() if len(v) < 2},
        "varying": [name for name, distinct in values.items() if len(distinct) > 1],
        "rows": rows,
        "notes": notes + comparability.unequal_weights(runs),
    }


def _teacher_accuracies(runs):
    """The teachers' accuracies by name, with the settings in which several differ."""
    names = ("teacher", "teacher_sha256", "data", "precision")
    known = {
        tuple(run["settings"].get(name) for name in names): run["teacher_accuracy"]
        for run in runs
        if "teacher_accuracy" in run
    }
    accuracies = {}
    for key, accuracy in known.items():
        alike = [other for other in known if other[0] == key[0]]
        differing = [
            str(value)[:8] if name == "teacher_sha256" else str(value)
            for name, value, *others in zip(names, key, *alike, strict=True)
            if len(set(others)) > 1
        ]
        name = f"{key[0]} ({', '.join(differing)})" if differing else key[0]
        accuracies[name] = accuracy
    return accuracies


def _setting_values(runs):
    """The distinct values of each setting that is not a column or the seed."""
    distinct = {}
    for name in dict.fromkeys(name for run in runs for name in run["settings"]):
        if name not in (*KEY_COLUMNS, "seed"):
            values = {str(v): v for v in (run["settings"].get(name) for run in runs)}
            if name.startswith("teacher"):
                # A run without a teacher is compared with all teachers.
                values.pop("None", None)
            distinct[name] = list(values.values())
    return distinct


def group_runs(runs):
    """The runs of each row: `(key, runs)`, in the order of the rows.

    Runs that differ in more than the seed are never averaged.
    """
    varying = [name for name, values in _setting_values(runs).items() if values[1:]]
    names = (*KEY_COLUMNS, *varying)
    ranks = {method: rank for rank, method in enumerate(recipes.methods())}
    groups: dict[tuple, list] = {}
    for run in runs:
        key = tuple(run["settings"].get(name) for name in names)
        groups.setdefault(key, []).append(run)
    result = []
    for key in sorted(
        groups, key=lambda k: (ranks.get(k[0], len(ranks)), *map(str, k))
    ):
        parts = comparability.group_comparable(groups[key])
        row = dict(zip(names, key, strict=True))
        for number, part in enumerate(parts, 1):
            result.append(({**row, "part": number if parts[1:] else None}, part))
    return result


def row_name(row):
    """The method of a row, with its part."""
    return to_file_name(row["method"]) + (f" ({row['part']})" if row["part"] else "")


def dedupe_seeds(runs):
    """One run per seed, in the order of the seeds: finished if there is one."""
    by_seed: dict[int, dict] = {}
    for run in sorted(runs, key=lambda run: run["status"] != "finished"):
        by_seed.setdefault(run["settings"]["seed"], run)
    return [by_seed[seed] for seed in sorted(by_seed)]


def _statistics(runs):
    finished = [run for run in runs if run["status"] == "finished"]
    unfinished = [run for run in runs if run["status"] != "finished"]
    sessions = [session for run in finished for session in run["sessions"]]
    step_seconds = [run["result"]["step_seconds"] for run in finished]
    memory = [session.get("peak_memory_bytes") for session in sessions]
    device_memory = [session.get("peak_device_memory_bytes") for session in sessions]
    parameters = {run["parameters"] for run in finished}
    return {
        "seeds": [run["settings"]["seed"] for run in finished],
        "missing": [
            {"seed": run["settings"]["seed"], "status": run["status"]}
            for run in unfinished
        ],
        **{which: _mean_and_std(finished, which) for which in ("best", "last")},
        "step_seconds": _or_none(statistics.median, step_seconds),
        "memory_bytes": _or_none(max, memory),
        "device_memory_bytes": _or_none(max, device_memory),
        "parameters": parameters.pop() if len(parameters) == 1 else None,
    }


def _mean_and_std(runs, which):
    values = [run["result"][which]["accuracy"] for run in runs]
    return {
        "mean": _or_none(statistics.mean, values),
        "std": statistics.stdev(values) if len(values) > 1 else None,
        "values": values,
    }


def _or_none(function, values):
    known = [value for value in values if value is not None]
    return function(known) if known else None


def _notes(runs, rows):
    notes = [
        EVALUATION_NOTE["validation" if fraction else "test"].format(fraction)
        for fraction in sorted({run["settings"]["validation"] for run in runs})
    ]
    for row in rows:
        if row["missing"]:
            seeds = ", ".join(f"{m['seed']} ({m['status']})" for m in row["missing"])
            where = f"{row_name(row)} on {row['backend']}"
            notes.append(f"missing: {where}, seeds {seeds}: not in the statistics")
    methods = dict.fromkeys(row["method"] for row in rows)
    for method in methods:
        if control := recipes.baseline_for(method):
            hint = "" if control in methods else ", which is not among these runs"
            notes.append(f"control of equal weight of {method}: {control}{hint}")
        elif is_reference(method):
            notes.append(_describe_own_weights(method, runs))
    return notes


def _describe_own_weights(method, runs):
    """A sentence about a method of the user's own, of which no control is known."""
    recipe = next(r["recipe"] for r in runs if r["settings"]["method"] == method)
    weight = comparability.total_loss_weight(recipe)
    losses = "its losses" if weight is None else f"KD of a total weight of {weight:g}"
    label_weight = recipe.get("task_weight", 1.0)
    return (
        f"{method}: {label_weight:g} CE + {losses}; no control is known. Compare it "
        "with a method of its weights: kd is 0.1 CE + 0.9 KD, ce_4kd is CE + 4 KD"
    )


def _group_notes(groups):
    notes = []
    for key, runs in groups:
        seeds = collections.Counter(run["settings"]["seed"] for run in runs)
        where = f"{row_name(key)} on {key['backend']}"
        for seed, count in sorted(seeds.items()):
            if count > 1:
                text = f"{count} runs, one of which counts; remove the others"
                notes.append(f"{where}, seed {seed}: {text}")
    for _, parts in itertools.groupby(groups, lambda group: {**group[0], "part": None}):
        keys, part_runs = zip(*parts, strict=True)
        if len(keys) > 1:
            numbers = ", ".join(f"({key['part']})" for key in keys)
            differences = comparability.diff_runs([runs[0] for runs in part_runs])
            names = (f"{n}: {', '.join(map(str, v))}" for n, v in differences.items())
            notes.append(
                f"{keys[0]['method']} on {keys[0]['backend']}: {numbers} are not "
                f"averaged, they differ in {'; '.join(names)}"
            )
    return notes


def to_cells(table):
    """The header and the rows as text."""
    names = [*KEY_COLUMNS, *table["varying"]]
    return [[*names, *METRIC_COLUMNS], *(_cells(row, names) for row in table["rows"])]


def _cells(row, names):
    memory = row["device_memory_bytes"] or row["memory_bytes"]
    finished, missing = len(row["seeds"]), len(row["missing"])
    return [
        row_name(row),
        *("–" if row[name] is None else _shorten(str(row[name])) for name in names[1:]),
        f"{finished} of {finished + missing}" if missing else f"{finished}",
        *(_percent(row[which]) for which in ("best", "last")),
        "–" if row["step_seconds"] is None else f"{1e3 * row['step_seconds']:.1f}",
        "–" if memory is None else f"{memory / 1e9:.2f}",
        "–" if row["parameters"] is None else f"{row['parameters']:,}",
    ]


def _shorten(text):
    """At most 16 characters, the last ones too: names of folders begin alike."""
    return text if len(text) <= 16 else f"{text[:7]}…{text[-8:]}"


def _percent(accuracy):
    if accuracy["mean"] is None:
        return "–"
    std = "" if accuracy["std"] is None else f" ± {100 * accuracy['std']:.2f}"
    return f"{100 * accuracy['mean']:.2f}{std}"


def table_title(table):
    """The settings shared by all runs, in a line."""
    common = {n: v for n, v in table["common"].items() if v is not None}
    # Not for people.
    common.pop("teacher_sha256", None)
    models = [
        to_file_name(common.pop(n)) for n in ("teacher", "student") if n in common
    ]
    settings = [f"{name.replace('_', ' ')} {value}" for name, value in common.items()]
    return ", ".join([" → ".join(models), *settings] if models else settings)


def to_markdown(table):
    """The table as Markdown."""
    header, *rows = [[_escape(cell) for cell in row] for row in to_cells(table)]
    lines = [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]
    notes = [f"- {_escape(note)}" for note in table["notes"]]
    return "\n".join([_escape(table_title(table)), "", *lines, "", *notes]) + "\n"


def _escape(text):
    """A text whose characters mean nothing to Markdown, as far as paths have others."""
    return re.sub(r"[\[\]\\`*<>|$&#]", r"\\\g<0>", text)
