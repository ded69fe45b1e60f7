"""Cost of KDIGA, IKD and their controls, relative to KD.

    KERAS_BACKEND=jax python benchmarks/gradient_cost.py

Timed as in step_time.py: a resnet20 teacher and a resnet8 student on random images, all
variants in one process, in turns, ratios within a round. The cost of RLKD's policy is
measured by temperature_policy.py, task `cost`.
"""

import argparse
import os
import warnings
from pathlib import Path

import keras
import numpy as np
from machine import environment_info, save
from report import median_and_quartiles
from step_time import Fit, clone, compiled, heading, images, measure

from keras_dtkd import Distiller, InteractiveDistiller, models
from keras_dtkd.losses import KD, InputGradientAlignment, InputGradientPenalty

ESTIMATORS = ("exact", "jvp", "finite_difference")


def estimator_arguments(estimator):
    """The estimators other than `"exact"` need the squared norm."""
    squared = {} if estimator == "exact" else {"squared": True}
    return {"estimator": estimator, **squared}


def variants(depths, exam):
    """Title → `Fit`, each with its own student (and teacher, if trained)."""
    teacher, student = (models.get(f"resnet{depth}") for depth in depths)

    def with_kd(*losses):
        losses = [KD(1.0, weight=0.5), *losses]
        options = {"task_weight": 0.5, "torch_compile": False}
        distiller = Distiller(teacher, clone(student), losses, **options)
        return Fit(compiled(distiller))

    def interactive(**arguments):
        distiller = InteractiveDistiller(clone(teacher), clone(student), **arguments)
        distiller.set_exam(*exam)
        return Fit(compiled(distiller))

    return {
        "KD": with_kd(),
        **{
            f"KDIGA, `{name}`": with_kd(
                InputGradientAlignment(**estimator_arguments(name))
            )
            for name in ESTIMATORS
        },
        "`InputGradientPenalty`": with_kd(InputGradientPenalty()),
        **{f"IKD, `{name}`": interactive(estimator=name) for name in ESTIMATORS},
        **{
            f"IKD's control `{name}`": interactive(exam_for=name)
            for name in ("teacher", "student")
        },
    }


def table(wall, processor):
    """Markdown: medians, and ratios to KD within each round."""
    lines = ["| step | ms | ÷ KD | CPU time: ms | ÷ KD |", "|---|---|---|---|---|"]
    for name in wall:
        cells = [name]
        for seconds in (wall, processor):
            ratios = np.divide(seconds[name], seconds["KD"])
            cells.append(f"{1000 * median_and_quartiles(seconds[name])[0]:.1f}")
            cells.append("{:.2f} ({:.2f}–{:.2f})".format(*median_and_quartiles(ratios)))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64, help="batch and exam size")
    parser.add_argument("--steps", type=int, default=4, help="steps per epoch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--depths", type=int, nargs=2, default=[20, 8])
    parser.add_argument("--output", type=Path, help="the JSON file of the results")
    options = parser.parse_args()
    # An untrained teacher on random images causes warnings that are expected here.
    warnings.filterwarnings("ignore", category=UserWarning)

    keras.utils.set_random_seed(0)
    result = {**environment_info(), "options": {**vars(options), "output": None}}
    functions = variants(options.depths, images(options.batch, 1))
    wall, processor = measure(functions, options.batch, options.steps, options.rounds)
    result |= {"seconds": wall, "cpu_seconds": processor}
    result["load_after"] = os.getloadavg()[0]
    save(result, "gradient_cost", options.output)
    print(heading(result, options.depths, options.rounds))
    print(table(wall, processor))


if __name__ == "__main__":
    main()
