"""The printed tables of an `Explanation`, of its most notable entries."""

import textwrap

from keras_dtkd.core.class_names import shorten_names
from keras_dtkd.diagnostics.confusions import MIN_SAMPLES, MIN_SHARE, SIGNIFICANCE

# Rows of a table of classes, and of other tables.
MAX_CLASSES, MAX_ROWS = 12, 8
NAME_WIDTH, WIDTH, MISSING = 12, 88, "–"
OVERALL_ROWS = {
    "accuracy": ("teacher_accuracy", "student_accuracy"),
    "probability of wrong classes": (
        "teacher_wrong_probability",
        "student_wrong_probability",
    ),
}
SHARES = {
    "agreement": "Agreement",
    "both_right": "both right",
    "teacher_only": "the teacher only",
    "student_only": "the student only",
    "both_wrong": "both wrong",
}


def format_explanation(explanation):
    """The text that `print(explanation)` shows."""
    names = shorten_names(explanation.class_names, NAME_WIDTH)
    parts = [
        _format_overall(explanation),
        _format_classes(explanation, names),
        _format_soft_labels(explanation, names),
        _format_confusions(explanation, names),
        _format_gradients(explanation, names),
    ]
    return "\n\n".join(parts)


def _format_overall(explanation):
    overall, calibration = explanation.overall, explanation.calibration
    rows = [["", "teacher", "student"]]
    for name, keys in OVERALL_ROWS.items():
        rows.append([name, *(_percent(overall[key]) for key in keys)])
    errors = [f"{calibration[role]['error']:.4f}" for role in ("teacher", "student")]
    rows.append(["expected calibration error", *errors])
    same, names = overall["same_wrong_class"], SHARES.items()
    shares = [f"{name} {_percent(overall[key])}" for key, name in names]
    if same is not None:
        shares[-1] += f" ({_percent(same)} of it with the same prediction)"
    sentences = [", ".join(shares) + "."]
    correlation = overall["soft_label_correlation"]
    if correlation is not None:
        sentences.append(f"Correlation over the wrong classes: {correlation:.2f}.")
    head = (
        f"{explanation.num_samples} samples, {len(explanation.class_names)} classes, "
        f"soft labels at temperature {explanation.temperature:g}"
    )
    text = textwrap.wrap(" ".join(sentences), WIDTH)
    return "\n".join([head, *_align(rows), *text])


def _format_classes(explanation, names):
    header = ["class", "samples", "teacher", "student", "agree", "only t.", "only s."]
    rows = [[*header, "neither", "same"]]
    keys = (
        *("teacher_accuracy", "student_accuracy", "agreement", "teacher_only"),
        *("student_only", "both_wrong", "same_wrong_class"),
    )
    shown = _select_classes(explanation, lambda c: c["agreement"])
    for c in shown:
        cells = [_percent(c[key]) for key in keys]
        rows.append([names[c["label"]], str(c["samples"]), *cells])
    legend = (
        "Accuracy of both models, agreement, the share that one model alone or neither "
        "has right, and of the latter the share with the same prediction"
    )
    legend += _describe_rest(explanation, shown, "The lowest agreement")
    return "\n".join([*textwrap.wrap(legend, WIDTH), *_align(rows)])


def _format_soft_labels(explanation, names):
    header = ["class", "wrong: t.", "wrong: s.", "corr.", "nearest of t.", "of s."]
    rows = [header]
    has_correlation = explanation.overall["soft_label_correlation"] is not None
    key = "soft_label_correlation" if has_correlation else "agreement"
    shown = _select_classes(explanation, lambda c: c[key])
    for c in shown:
        wrong = [_percent(c[f"{r}_wrong_probability"]) for r in ("teacher", "student")]
        correlation = c["soft_label_correlation"]
        nearest = [
            f"{names[c[f'{r}_nearest_class']]} "
            f"{_percent(c[f'{r}_nearest_probability'])}"
            for r in ("teacher", "student")
        ]
        text = MISSING if correlation is None else f"{correlation:.2f}"
        rows.append([names[c["label"]], *wrong, text, *nearest])
    legend = (
        "Soft labels: the mean probability of all wrong classes, of the nearest one, "
        "and the correlation over the wrong classes"
    )
    order = "The lowest correlation" if has_correlation else "The lowest agreement"
    legend += _describe_rest(explanation, shown, order)
    return "\n".join([*textwrap.wrap(legend, WIDTH), *_align(rows)])


def _format_confusions(explanation, names):
    candidates = [c for c in explanation.confusions if c["is_frequent"]]
    if not candidates:
        return (
            "Confusions: there is no pair of classes of which the teacher confuses "
            f"{MIN_SAMPLES} samples."
        )
    rows = [["label → prediction", "teacher's", "student too", "elsewhere", "p", ""]]
    for c in candidates[:MAX_ROWS]:
        p, elsewhere = c["p_value"], c["rate_elsewhere"]
        rows.append(
            [
                f"{names[c['label']]} → {names[c['predicted']]}",
                str(c["teacher_samples"]),
                _percent(c["taken_over_share"]),
                MISSING if elsewhere is None else _percent(elsewhere),
                MISSING if p is None else f"{p:.1g}",
                "taken over" if c["is_taken_over"] else "",
            ]
        )
    legend = (
        "Confusions of the teacher with at least "
        f"{MIN_SAMPLES} samples: the share of these samples that the student confuses "
        "likewise, and the share of those on which the teacher is right. Taken over: "
        f"at least {MIN_SHARE:.0%}, and more than elsewhere with p ≤ {SIGNIFICANCE} (p "
        "times the number of tests)."
    )
    lines = [*textwrap.wrap(legend, WIDTH), *_align(rows)]
    hidden = candidates[MAX_ROWS:]
    if hidden:
        count = sum(c["is_taken_over"] for c in hidden)
        lines.append(f"{len(hidden)} more pairs left out, {count} of them taken over.")
    return "\n".join(lines)


def _format_gradients(explanation, names):
    gradients = explanation.gradients
    if gradients["top_share"] is None:
        return "Gradient of KD: 0 for every sample. Both models have the same outputs."
    rows = [["sample", "label", "teacher", "student", "gradient", "share"]]
    for s in gradients["top_samples"][:MAX_ROWS]:
        predicted = [
            f"{names[s[f'{r}_prediction']]} {_percent(s[f'{r}_confidence'])}"
            for r in ("teacher", "student")
        ]
        label = names[s["label"]]
        sizes = f"{s['gradient_norm']:.3g}", f"{100 * s['share']:.2g}%"
        rows.append([str(s["index"]), label, *predicted, *sizes])
    head = (
        f"Gradient of KD: the top 10% of the samples have "
        f"{_percent(gradients['top_share'])} of the sum of all norms. The largest:"
    )
    return "\n".join([*textwrap.wrap(head, WIDTH), *_align(rows)])


def _select_classes(explanation, key):
    """All classes if there are few, else those with the lowest keys."""
    classes = explanation.classes
    if len(classes) <= MAX_CLASSES:
        return classes
    return sorted(classes, key=key)[:MAX_CLASSES]


def _describe_rest(explanation, shown, order):
    hidden = len(explanation.classes) - len(shown)
    return f". {order} first; {hidden} more classes are left out:" if hidden else ":"


def _align(rows):
    """Rows of cells as lines: the first column to the left, all others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _percent(value):
    return MISSING if value is None else f"{value:.1%}"
