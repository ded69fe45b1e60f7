"""Runs to the rows of one table: methods and backends, over seeds."""

import statistics

from keras_dtkd import recipes
from keras_dtkd.cli import loss_weight_audit, provenance

# What a row stands for. Runs that differ in anything but the seed are never averaged.
FIRST = ("method", "backend")
HEADER = ("seeds", "best (%)", "last (%)", "ms/step", "GB", "params")
JUDGED = {
    "validation": "best: the epoch of the best accuracy on the validation images "
    "({:g} of the training images); its accuracy on the test images",
    "test": "best: the epoch of the best accuracy on the test images, chosen on them, "
    "as the literature does; it flatters",
}


def make(runs):
    """The table.

    Args:
        runs: What the run.json files say, a list of dicts.

    Returns:
        Plain data. `common` are the settings that all runs share, `varying` the names
        of the others, `rows` a dict for each, `notes` what must be said with it. The
        `part` of a row is a number where runs of its settings were made with different
        things, else `None`.
    """
    settings = [run["settings"] for run in runs]
    names, varying = _names(settings)
    groups = grouped(runs)
    rows = [{**named, **_row(each_seed_once(group))} for named, group in groups]
    common = {name: _value(name, settings) for name in names if name not in varying}
    notes = [
        *_notes(runs, rows),
        *_notes_on_groups(groups),
        *loss_weight_audit.unequal(runs),
    ]
    return {"common": common, "varying": varying, "rows": rows, "notes": notes}


def _names(settings):
    names = [name for name in settings[0] if name not in (*FIRST, "seed")]
    return names, [name for name in names if _varies(name, settings)]


def grouped(runs):
    """The runs behind each row.

    Args:
        runs: As for `make`.

    Returns:
        A list of `(named, runs)`, in the rows' order; `named` is what names a row.
    """
    names = (*FIRST, *_names([run["settings"] for run in runs])[1])
    groups: dict[tuple, list] = {}
    for run in runs:
        key = tuple(run["settings"].get(name) for name in names)
        groups.setdefault(key, []).append(run)
    found = []
    for key, group in sorted(groups.items(), key=_order):
        parts = provenance.parts(group)
        for number, part in enumerate(parts, 1):
            named = dict(zip(names, key, strict=True))
            named["part"] = number if len(parts) > 1 else None
            found.append((named, part))
    return found


def called(row):
    """A row's method, with its part."""
    return row["method"] + (f" ({row['part']})" if row["part"] else "")


def each_seed_once(runs):
    """The first finished run of each seed, or the first."""
    found: dict[int, dict] = {}
    for run in sorted(runs, key=lambda run: run["status"] != "finished"):
        found.setdefault(run["settings"]["seed"], run)
    return list(found.values())


def _notes_on_groups(groups):
    notes: list[str] = []
    parts: dict[str, list] = {}
    for named, runs in groups:
        who = f"{called(named)} on {named['backend']}"
        seeds = [run["settings"]["seed"] for run in runs]
        for seed in sorted({seed for seed in seeds if seeds.count(seed) > 1}):
            notes.append(
                f"{who}, seed {seed}: {seeds.count(seed)} runs lie here, and one of "
                "them counts; remove the others"
            )
        if named["part"]:
            parts.setdefault(str({**named, "part": None}), []).append((named, runs[0]))
    for rows in parts.values():
        first = rows[0][0]
        numbers = ", ".join(f"({named['part']})" for named, _ in rows)
        differ = provenance.differences([run for _, run in rows])
        told = "; ".join(f"{n}: {', '.join(map(str, v))}" for n, v in differ.items())
        notes.append(
            f"{first['method']} on {first['backend']}: {numbers} are not averaged, "
            f"they differ in {told}"
        )
    return notes


def _value(name, settings):
    """What they share. A student alone has no teacher, and has none to differ in."""
    values = [one.get(name) for one in settings]
    return next((value for value in values if value is not None), None)


def _varies(name, settings):
    values = {str(one.get(name)) for one in settings}
    if name.startswith("teacher"):
        values.discard("None")
    return len(values) > 1


def _order(item):
    method, *others = item[0]
    known = recipes.methods()
    place = known.index(method) if method in known else len(known)
    return place, *map(str, (method, *others))


def _row(runs):
    runs = sorted(runs, key=lambda run: run["settings"]["seed"])
    done = [run for run in runs if run["status"] == "finished"]
    steps = [run["result"]["step_seconds"] for run in done]
    sessions = [session for run in done for session in run["sessions"]]
    parameters = {run["parameters"] for run in done}
    return {
        "seeds": [run["settings"]["seed"] for run in done],
        "missing": [
            {"seed": run["settings"]["seed"], "status": run["status"]}
            for run in runs
            if run not in done
        ],
        **{which: _spread(done, which) for which in ("best", "last")},
        "step_seconds": _or_none(statistics.median, steps),
        "memory_bytes": _or_none(max, [s.get("peak_memory_bytes") for s in sessions]),
        "device_memory_bytes": _or_none(
            max, [s.get("peak_device_memory_bytes") for s in sessions]
        ),
        "parameters": parameters.pop() if len(parameters) == 1 else None,
    }


def _spread(runs, which):
    """Mean and, of several, standard deviation (divisor: their number less 1)."""
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
    shares = {run["settings"]["validation"] for run in runs}
    notes = [
        JUDGED["validation" if share else "test"].format(share)
        for share in sorted(shares)
    ]
    for row in rows:
        if row["missing"]:
            told = ", ".join(f"{m['seed']} ({m['status']})" for m in row["missing"])
            notes.append(
                f"missing: {called(row)} on {row['backend']}, seeds {told}: not in "
                "the figures"
            )
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for method in methods:
        if control := recipes.baseline_for(method):
            there = "" if control in methods else ", which is not among these runs"
            notes.append(f"control of equal weight of {method}: {control}{there}")
    return notes


def cells(table):
    """Header and rows of text."""
    names = [*FIRST, *table["varying"]]
    return [*names, *HEADER], [_cells(row, names) for row in table["rows"]]


def _cells(row, names):
    memory = row["device_memory_bytes"] or row["memory_bytes"]
    seeds = f"{len(row['seeds'])}"
    if row["missing"]:
        seeds += f" of {len(row['seeds']) + len(row['missing'])}"
    return [
        called(row),
        *("–" if row[name] is None else str(row[name])[:16] for name in names[1:]),
        seeds,
        *(_percent(row[which]) for which in ("best", "last")),
        "–" if row["step_seconds"] is None else f"{1e3 * row['step_seconds']:.1f}",
        "–" if memory is None else f"{memory / 1e9:.2f}",
        "–" if row["parameters"] is None else f"{row['parameters']:,}",
    ]


def _percent(spread):
    if spread["mean"] is None:
        return "–"
    std = "" if spread["std"] is None else f" ± {100 * spread['std']:.2f}"
    return f"{100 * spread['mean']:.2f}{std}"


def title(table):
    """What all runs share, in a line."""
    common = dict(table["common"])
    # For machines.
    common.pop("teacher_sha256", None)
    models = [m for n in ("teacher", "student") if (m := common.pop(n, None))]
    others = [f"{n.replace('_', ' ')} {v}" for n, v in common.items() if v is not None]
    return ", ".join([" → ".join(models), *others] if models else others)


def markdown(table):
    """The table as Markdown."""
    header, rows = cells(table)
    lines = [f"{title(table)}", "", _line(header), _line(["---"] * len(header))]
    lines += map(_line, rows)
    return "\n".join([*lines, "", *(f"- {note}" for note in table["notes"])]) + "\n"


def _line(texts):
    return f"| {' | '.join(texts)} |"
