"""Differences between runs of equal settings: recipe, package versions, device."""

PACKAGES = ("keras", "keras_dtkd", "tensorflow", "jax", "jaxlib", "torch")
BACKEND_PACKAGES = {"tensorflow", "jax", "jaxlib", "torch"}


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
    recipes, environments = map(_recipe, runs), list(map(_environment, runs))
    records = [r | e for r, e in zip(recipes, environments, strict=True)]
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
    unused = BACKEND_PACKAGES - {backend, f"{backend}lib"}
    names = [name for name in PACKAGES if name not in unused]
    values: dict[str, dict] = {}
    for session in run.get("sessions", []):
        versions = session.get("versions", {})
        found = {name: versions[name] for name in names if name in versions}
        if "device" in session:
            found["device"] = session["device"]
        for name, value in found.items():
            values.setdefault(name, {})[value] = None
    return {name: " and ".join(distinct) for name, distinct in values.items()}
