"""What forbids to average runs of equal settings, or to compare two methods."""

from keras_dtkd import recipes

BACKEND_PACKAGES = {"tensorflow": ("tensorflow",), "jax": ("jax", "jaxlib")}


def group_comparable(runs):
    """Groups runs of equal settings by recipe, versions and device.

    A run that has not started has no versions, and joins any group.
    """
    groups: list[list] = []
    for run in sorted(runs, key=lambda run: not run.get("sessions")):
        fitting = (group for group in groups if not diff_runs([group[0], run]))
        group = next(fitting, None)
        if group is None:
            groups.append([run])
        else:
            group.append(run)
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
    return dict(_flatten({n: v for n, v in run["recipe"].items() if n not in ignored}))


def _flatten(value, path=()):
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _flatten(item, path if name == "arguments" else (*path, name))
    else:
        yield ".".join(path), str(value)


def _environment(run):
    """Versions and device, of each process that worked on the run."""
    backend = run["settings"]["backend"]
    packages = "keras", "keras_dtkd", *BACKEND_PACKAGES.get(backend, (backend,))
    values: dict[str, dict] = {}
    for session in run.get("sessions", []):
        versions = {**session.get("versions", {}), "device": session.get("device")}
        for name in (*packages, "device"):
            if versions.get(name):
                values.setdefault(name, {})[versions[name]] = None
    return {name: " and ".join(distinct) for name, distinct in values.items()}


def total_loss_weight(recipe):
    """The total weight after the warm-up of losses that are KD at equal temperatures.

    `None` if a loss is of another kind.
    """
    weights = [_loss_weight(loss) for loss in recipe["distillation_losses"].values()]
    return None if None in weights else sum(weights)


def _loss_weight(loss):
    arguments = loss["arguments"]
    match loss["class"]:
        case "DTKD" | "DKD":
            return arguments["alpha"] + arguments["beta"]
        case "CSKD":
            # One term for each of its temperatures.
            return arguments["alpha"] * len(arguments["temperatures"])
        case "DIST":
            return arguments["weight"] * (arguments["beta"] + arguments["gamma"])
        case "KD":
            return arguments["weight"]
    return None


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
            numbers = [
                " and ".join(f"{weight:g}" for weight in sorted(distinct))
                for distinct in (values, expected)
            ]
            sentences.append(
                f"weights differ: {method} {numbers[0]}, {baseline} {numbers[1]}"
            )
    return list(dict.fromkeys(sentences))
