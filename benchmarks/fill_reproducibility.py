"""Writes what was measured on accelerators into docs/reproducibility.md.

    python benchmarks/fill_reproducibility.py

The tables between the two markers come from the files that accelerator.py writes. With
a folder of such files as argument it prints them instead.
"""

import json
import statistics
import sys
from pathlib import Path

from accelerator import METHODS, PAIRS, SEEDS
from report import median_and_quartiles

from keras_dtkd.cli import run_dir, table

HERE = Path(__file__).parent
TITLES = {
    "ce": "student alone",
    "kd": "KD",
    "ce_4kd": "CE + KD of DTKD's weight",
    "dtkd": "DTKD",
    "dtkd_loose": "DTKD, bound 0.1",
    "dtkd_published": "DTKD, as published",
    "dkd": "DKD",
    "dist": "DIST",
}
MISSING = "not measured"
BEGIN = "<!-- Written by benchmarks/fill_reproducibility.py: begin -->"
END = "<!-- Written by benchmarks/fill_reproducibility.py: end -->"


def to_table(*rows):
    header, *rows = rows
    rows = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def read_runs(folder):
    """The finished runs in a folder, at any depth."""
    runs = [run_dir.read_run(path.parent) for path in sorted(folder.rglob("run.json"))]
    return [run for run in runs if run["status"] == "finished"]


def accuracy_cell(runs, pair, method):
    """Last and best epoch of a pair and method: mean ± std, with fewer seeds named."""
    settings = ({"teacher": pair[0]} if method != "ce" else {}) | {"student": pair[1]}
    settings["method"] = method
    chosen = [run for run in runs if settings.items() <= run["settings"].items()]
    if not chosen:
        return MISSING
    if table.build_table(chosen)["varying"]:
        return "runs of several settings: `keras-dtkd report`"
    # On whatever card and version: these are named below the table.
    chosen = table.dedupe_seeds(chosen)
    cells = []
    for which in ("last", "best"):
        values = [100 * run["result"][which]["accuracy"] for run in chosen]
        spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        cells.append(f"{statistics.mean(values):.2f}{spread}")
    count = len(chosen)
    seeds = f" ({count} seed{'s' if count > 1 else ''})" if count < SEEDS else ""
    return f"{', '.join(cells)}{seeds}"


def accuracy_table(runs):
    header = ["", *(" → ".join(pair) for pair in PAIRS)]
    rows = (
        [TITLES[method], *(accuracy_cell(runs, pair, method) for pair in PAIRS)]
        for method in METHODS
    )
    text = to_table(header, *rows)
    sessions = [session for run in runs for session in run["sessions"]]
    devices = sorted({session["device"] for session in sessions})
    return f"{text}\n\nOn: {', '.join(devices)}." if devices else text


def read_results(folder, name):
    """`(card, backend, content)` of the files of a benchmark."""
    for path in sorted(folder.glob(f"*/{name}-*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        yield content["device"], content["backend"], content


# What a step is divided by, where it was measured.
OTHERS = {
    "keras.distillation": "keras.distillation",
    "jax": "plain JAX",
    "torch": "plain PyTorch",
    "torch.compile": "torch.compile",
}


def step_table(folder):
    """Milliseconds of `KD()`'s step by the clock, and ratios within a round."""
    header = ["card", "backend", "precision", "batch", "ms", *OTHERS.values()]
    rows = []
    for precision in ("float32", "bfloat16"):
        results = read_results(folder, f"step_time_{precision}_*")
        for card, backend, content in results:
            for batch, seconds in content["seconds"].items():
                ours = seconds.get("kd, compiled", seconds["kd"])
                cells = [card, backend, precision, batch]
                cells.append(f"{1000 * median_and_quartiles(ours)[0]:.2f}")
                for other in OTHERS:
                    cell = ""
                    if other in seconds:
                        pairs = zip(ours, seconds[other], strict=True)
                        ratio = median_and_quartiles([a / b for a, b in pairs])[0]
                        cell = f"÷ {ratio:.2f}"
                    cells.append(cell)
                rows.append(cells)
    return to_table(header, *rows) if rows else MISSING


def chunk_table(folder):
    """Memory beyond the inputs, and milliseconds, of the plain form and in chunks."""
    header = ["card", "backend", "tokens", "plain", "in chunks"]
    rows = []
    for card, backend, content in read_results(folder, "chunked_divergence"):
        for line in content["results"]:
            cells = [
                "failed"
                if line[form] is None
                else f"{line[form]['bytes'] / 2**20:,.0f} MiB, "
                f"{1000 * line[form]['seconds']:.1f} ms"
                for form in ("plain", "chunked")
            ]
            rows.append([card, backend, f"{line['tokens']:,}", *cells])
    return to_table(header, *rows) if rows else MISSING


def rollout_table(folder):
    """Tokens per second in `fit`, given or generated."""
    rows, names = [], []
    for card, backend, content in read_results(folder, "rollout_speed"):
        length = content["length"] - content["prompt"]
        for batch in content["batches"]:
            names = [key.split(", ", 1)[1] for key in content["seconds"]]
            names = list(dict.fromkeys(names))
            speeds = [
                f"{batch * length / content['seconds'][f'{batch}, {name}']:,.0f}"
                for name in names
            ]
            rows.append([card, backend, str(batch), *speeds])
    return to_table(["card", "backend", "batch", *names], *rows) if rows else MISSING


def make_text(folder):
    """All tables, as Markdown."""
    runs = read_runs(folder / "runs")
    parts = [
        "Accuracy on the test images in %, last epoch and best test epoch, mean ± std "
        f"of {SEEDS} seeds:",
        accuracy_table(runs),
        "A step of resnet20 → resnet8 with `KD()`, wall-clock, medians; PyTorch with "
        "`torch_compile=True`:",
        step_table(folder),
        "Half cross-entropy, half JSD, value and gradient from hidden states of widths "
        "2,048 and 4,096, 128,256 classes, bfloat16: memory beyond inputs, and time:",
        chunk_table(folder),
        "Tokens a second in `fit`, given ones and generated ones, llamas of 12 and 4 "
        "layers, width 768, sequences of 128, bfloat16:",
        rollout_table(folder),
    ]
    return "\n\n".join(parts)


def fill(text, folder):
    """The document with the tables of a folder of results."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{make_text(folder)}\n\n{END}{after}"


def main():
    if sys.argv[1:]:
        print(make_text(Path(sys.argv[1])))
        return
    path = HERE.parent / "docs" / "reproducibility.md"
    filled = fill(path.read_text(encoding="utf-8"), HERE / "accelerator")
    path.write_text(filled, encoding="utf-8")


if __name__ == "__main__":
    main()
