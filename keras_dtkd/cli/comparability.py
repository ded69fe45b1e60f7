"""What forbids to average runs of equal settings, or to compare two methods."""

from keras_dtkd import recipes

# The total weight of losses that are KD at equal temperatures, after the warm-up.
LOSS_WEIGHTS = {
    "KD": lambda a: a["weight"],
    "DTKD": lambda a: a["alpha"] + a["beta"],
    "DKD": lambda a: a["alpha"] + a["beta"],
    # One term for each of its temperatures.
    "CSKD": lambda a: a["alpha"] * len(a["temperatures"]),
    "DIST": lambda a: a["weight"] * (a["beta"] + a["gamma"]),
}


def group_comparable(runs):
    """Groups runs of equal settings by recipe, versions and device.

    A run that has not started has no versions, and joins any group.
    """
    groups: list[list] = []
    for run in sorted(runs, key=lambda run: not run.get("sessions")):
        for group in groups:
            if not diff_runs([group[0], run]):
                group.append(run)
                break
        else:
            groups.append([run])
    return groups


def diff_runs(runs):
    """The names in which runs differ, each with a list of the runs' values."""
    environments = [_environment(run) for run in runs]
    records = [_recipe(run) | e for run, e in zip(runs, environments, strict=True)]
    differences = {}
    for name in dict.fromkeys(name for record in records for name in record):
        values = [record.get(name) for record in records]
        distinct = set(values)
        if any(name in environment for environment in environments):
            distinct.discard(None)
        if len(distinct) > 1:
            differences[name] = values
    return differences


def _recipe(run):
    """The recipe without its prose, and without what the settings repeat."""
    ignored = {"source", *run["settings"]}
    recipe = {n: v for n, v in run["recipe"].items() if n not in ignored}
    return dict(_flatten({**recipe, "code": run.get("code", {})}))


def _flatten(value, path=()):
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _flatten(item, path if name == "arguments" else (*path, name))
    else:
        yield ".".join(path), str(value)


def _environment(run):
    """Versions and device, of each process that worked on the run."""
    backend = run["settings"]["backend"]
    packages = ("jax", "jaxlib") if backend == "jax" else (backend,)
    names = "keras", "keras_dtkd", *packages, "device"
    sessions = [{**s.get("versions", {}), **s} for s in run.get("sessions", [])]
    values = {n: dict.fromkeys(s[n] for s in sessions if s.get(n)) for n in names}
    return {n: " and ".join(distinct) for n, distinct in values.items() if distinct}


def total_loss_weight(recipe):
    """The weight of all losses of a recipe; `None` if one is of another kind."""
    losses = recipe["distillation_losses"].values()
    if not {loss["class"] for loss in losses} <= LOSS_WEIGHTS.keys():
        return None
    return sum(LOSS_WEIGHTS[loss["class"]](loss["arguments"]) for loss in losses)


def unequal_weights(runs):
    """Sentences about methods whose baseline among the runs has another weight."""
    weights: dict[tuple, set] = {}
    for run in runs:
        settings = run["settings"]
        key = settings["teacher"], settings["student"], settings["method"]
        weights.setdefault(key, set()).add(total_loss_weight(run["recipe"]))
    sentences = []
    for (*pair, method), values in weights.items():
        baseline = recipes.baseline_for(method)
        expected = weights.get((*pair, baseline), values)
        if values != expected and None not in values | expected:
            found, wanted = (
                " and ".join(f"{weight:g}" for weight in sorted(distinct))
                for distinct in (values, expected)
            )
            text = f"weights differ: {method} {found}, {baseline} {wanted}"
            sentences.append(text)
    return list(dict.fromkeys(sentences))
