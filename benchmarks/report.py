"""Tables of paired timings."""

import statistics

TITLES = {
    "kd": "`Distiller`, `KD()`",
    "dtkd": "`Distiller`, `DTKD()`",
    "published": "`Distiller`, `DTKD.published()`",
    "keras.distillation": "`keras.distillation.Distiller`, T²·KL",
    "torch": "plain PyTorch, eager",
    "torch.compile": "plain PyTorch, `torch.compile`",
    "limit": "the limit: teacher + student",
    "teacher": "the teacher's forward pass alone",
    "student": "the student's plain `fit` alone",
}


def median_and_quartiles(values):
    """Median, lower and upper quartile."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, low, high


def table(seconds, cpu_seconds):
    """Markdown: milliseconds, and ratios within each round."""
    lines = [
        "| step | ms | ÷ limit | ÷ keras.distillation | CPU time: ms | ÷ limit "
        "| ÷ keras.distillation |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, title in TITLES.items():
        if name in seconds:
            cells = [*_cells(name, seconds), *_cells(name, cpu_seconds)]
            lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cells(name, seconds):
    middle, low, high = (1e3 * s for s in median_and_quartiles(seconds[name]))
    yield f"{middle:.1f} ({low:.1f}–{high:.1f})"
    for other in ("limit", "keras.distillation"):
        if other not in seconds or name in (other, "teacher", "student"):
            yield ""
            continue
        pairs = zip(seconds[name], seconds[other], strict=True)
        middle, low, high = median_and_quartiles([a / b for a, b in pairs])
        yield f"{middle:.3f} ({low:.3f}–{high:.3f})"
