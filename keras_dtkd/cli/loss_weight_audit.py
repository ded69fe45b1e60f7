"""What a method's distillation losses weigh, beside those of its control."""

from keras_dtkd import recipes


def weight(recipe):
    """The sum of a recipe's factors of terms that are KD's at equal temperatures.

    Args:
        recipe: As run.json has it.

    Returns:
        A number, without warm-up; `None` where a loss is of another kind.
    """
    found = [_of(loss) for loss in recipe["distillation_losses"].values()]
    return None if None in found else sum(found)


def _of(loss):
    given = loss["arguments"]
    match loss["class"]:
        case "DTKD" | "DKD":
            return given["alpha"] + given["beta"]
        case "CSKD":
            # One term for each of its temperatures.
            return given["alpha"] * len(given["temperatures"])
        case "DIST":
            return given["weight"] * (given["beta"] + given["gamma"])
        case "KD":
            return given["weight"]
    return None


def unequal(runs):
    """Where a method and its control, both among these runs, weigh differently.

    Args:
        runs: What the run.json files say.

    Returns:
        Sentences.
    """
    known: dict[tuple, set] = {}
    for run in runs:
        one = run["settings"]
        pair = one["teacher"], one["student"]
        known.setdefault((*pair, one["method"]), set()).add(weight(run["recipe"]))
    found: dict[str, None] = {}
    for (teacher, student, method), ours in known.items():
        control = recipes.baseline_for(method)
        theirs = known.get((teacher, student, control), ours)
        if ours != theirs and None not in ours | theirs:
            text = f"weights differ: {method} {_list(ours)}, {control} {_list(theirs)}"
            found[text] = None
    return list(found)


def _list(weights):
    return " and ".join(f"{weight:g}" for weight in sorted(weights))
