"""Tables of paired timings."""

import statistics

TITLES = {
    "kd": "`Distiller`, `KD()`",
    "kd, compiled": "`Distiller`, `KD()`, `torch_compile=True`",
    "dtkd": "`Distiller`, `DTKD()`",
    "published": "`Distiller`, `DTKD.published()`",
    "keras.distillation": "`keras.distillation.Distiller`, T²·KL",
    "torch": "plain PyTorch, eager",
    "torch.compile": "plain PyTorch, `torch.compile`",
    "jax": "plain JAX, compiled",
    "limit": "the limit: teacher + student",
    "teacher": "the teacher's forward pass alone",
    "student": "the student's plain `fit` alone",
}

# What the others are divided by.
OTHERS = "limit", "keras.distillation", "torch", "torch.compile", "jax"


def median_and_quartiles(values):
    """Median, lower and upper quartile."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, low, high


def table(seconds, cpu_seconds):
    """Markdown: milliseconds, and ratios within each round."""
    others = [name for name in OTHERS if name in seconds]
    ratios = " | ".join(f"÷ {name}" for name in others)
    lines = [
        f"| step | ms | {ratios} | CPU time: ms | {ratios} |",
        "|---" * (3 + 2 * len(others)) + "|",
    ]
    for name, title in TITLES.items():
        if name in seconds:
            parts = seconds, cpu_seconds
            cells = [cell for part in parts for cell in _cells(name, part, others)]
            lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cells(name, seconds, others):
    middle, low, high = (1e3 * s for s in median_and_quartiles(seconds[name]))
    yield f"{middle:.1f} ({low:.1f}–{high:.1f})"
    for other in others:
        if name in (other, "teacher", "student"):
            yield ""
            continue
        pairs = zip(seconds[name], seconds[other], strict=True)
        middle, low, high = median_and_quartiles([a / b for a, b in pairs])
        yield f"{middle:.3f} ({low:.3f}–{high:.3f})"
