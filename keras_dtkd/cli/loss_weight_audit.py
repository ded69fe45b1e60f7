"""Compares the loss weights of methods with those of their baselines."""

from keras_dtkd import recipes


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
    sentences: dict[str, None] = {}
    for (*pair, method), values in weights.items():
        baseline = recipes.baseline_for(method)
        expected = weights.get((*pair, baseline), values)
        if values != expected and None not in values | expected:
            sentence = (
                f"weights differ: {method} {_format_weights(values)}, {baseline} "
                f"{_format_weights(expected)}"
            )
            sentences[sentence] = None
    return list(sentences)


def _format_weights(weights):
    return " and ".join(f"{weight:g}" for weight in sorted(weights))
