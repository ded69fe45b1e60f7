"""What a run was made with, beyond its settings."""

PACKAGES = ("keras", "keras_dtkd", "tensorflow", "jax", "jaxlib", "torch")


def parts(runs):
    """Runs of equal settings, but for the seed, in lists that may be averaged.

    Args:
        runs: What the run.json files say.

    Returns:
        A list of lists: in each, recipe, versions and device are the same. A run that
        has not begun has no versions, and so none that differ.
    """
    found: list[list] = []
    for run in sorted(runs, key=lambda run: not run.get("sessions")):
        for part in found:
            if not differences([part[0], run]):
                part.append(run)
                break
        else:
            found.append([run])
    return found


def differences(runs):
    """In what runs differ.

    Returns:
        Names, each with a list of what each run has.
    """
    all_of = [{**_recipe(run), **_where(run)} for run in runs]
    names = dict.fromkeys(name for one in all_of for name in one)
    table = {name: [one.get(name) for one in all_of] for name in names}
    return {name: values for name, values in table.items() if _differ(name, values)}


def _differ(name, values):
    if name in ("device", *PACKAGES):
        values = [value for value in values if value is not None]
    return len(set(values)) > 1


def _recipe(run):
    """Without its words, and what stands in the settings."""
    settings = run["settings"]
    own = {
        n: v for n, v in run["recipe"].items() if n != "source" and n not in settings
    }
    return dict(_flat(own, ()))


def _flat(value, names):
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(inner, (*names, name))
    else:
        yield ".".join(n for n in names if n != "arguments"), str(value)


def _where(run):
    """Each process of a run may have had others."""
    backend, found = run["settings"]["backend"], dict[str, dict]()
    others = {"tensorflow", "jax", "jaxlib", "torch"} - {backend, f"{backend}lib"}
    for session in run.get("sessions", []):
        told = {n: v for n, v in session.get("versions", {}).items() if n in PACKAGES}
        told = {n: v for n, v in told.items() if n not in others}
        if "device" in session:
            told["device"] = session["device"]
        for name, value in told.items():
            found.setdefault(name, {})[value] = None
    return {name: " and ".join(values) for name, values in found.items()}
