"""Runs to the rows of one table: methods and backends, over seeds."""

import statistics

from keras_dtkd import recipes

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
        of the others, `rows` a dict for each, `notes` what must be said with it.
    """
    settings = [run["settings"] for run in runs]
    names = [name for name in settings[0] if name not in (*FIRST, "seed")]
    varying = [name for name in names if _varies(name, settings)]
    groups: dict[tuple, list] = {}
    for run in runs:
        key = tuple(run["settings"].get(name) for name in (*FIRST, *varying))
        groups.setdefault(key, []).append(run)
    rows = [
        {**dict(zip((*FIRST, *varying), key, strict=True)), **_row(group)}
        for key, group in sorted(groups.items(), key=_order)
    ]
    common = {name: _value(name, settings) for name in names if name not in varying}
    return {
        "common": common,
        "varying": varying,
        "rows": rows,
        "notes": _notes(runs, rows),
    }


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
                f"missing: {row['method']} on {row['backend']}, seeds {told}: not in "
                "the figures"
            )
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for method in methods:
        if control := recipes.control(method):
            there = "" if control in methods else ", which is not among these runs"
            notes.append(f"control of equal weight of {method}: {control}{there}")
    if _dtkd_weights(runs) - {4.0}:
        notes.append("the factors of dtkd do not sum to 4 here, those of ce_4kd do")
    return notes


def _dtkd_weights(runs):
    specs = [run["recipe"]["distillation_losses"].get("dtkd") for run in runs]
    return {s["arguments"]["alpha"] + s["arguments"]["beta"] for s in specs if s}


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
        *("–" if row[name] is None else str(row[name])[:16] for name in names),
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
