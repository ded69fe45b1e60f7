"""What gradients and feedback cost beside KD: KDIGA, its control, IKD, its controls.

    KERAS_BACKEND=jax python benchmarks/gradient_cost.py

Timed as in step_time.py: a resnet20 teaches a resnet8 on noise, all variants in one
process, in turns, ratios within a turn. RLKD's policy: temperature_policy.py, `cost`.
"""

import argparse
import os
import warnings
from pathlib import Path

import keras
import numpy as np
from machine import circumstances, save
from report import spread
from resnets import resnet
from step_time import Fit, clone, compiled, heading, images, measure

from keras_dtkd import Distiller, InteractiveDistiller
from keras_dtkd.losses import KD, InputGradientAlignment, InputGradientPenalty

ESTIMATORS = ("exact", "jvp", "finite_difference")


def gradients(estimator):
    """An estimate is one of the squared length."""
    squared = {} if estimator == "exact" else {"squared": True}
    return {"estimator": estimator, **squared}


def variants(depths, width, exam):
    """Title → `Fit`, each with a student, and with a teacher where that changes."""
    teacher, student = (resnet(depth, width) for depth in depths)

    def beside_kd(*losses):
        losses = [KD(1.0, weight=0.5), *losses]
        distiller = Distiller(teacher, clone(student), losses, task_weight=0.5)
        return Fit(compiled(distiller))

    def interactive(**arguments):
        distiller = InteractiveDistiller(clone(teacher), clone(student), **arguments)
        distiller.set_exam(*exam)
        return Fit(compiled(distiller))

    return {
        "KD": beside_kd(),
        **{
            f"KDIGA, `{name}`": beside_kd(InputGradientAlignment(**gradients(name)))
            for name in ESTIMATORS
        },
        "`InputGradientPenalty`": beside_kd(InputGradientPenalty()),
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
            cells.append(f"{1000 * spread(seconds[name])[0]:.1f}")
            cells.append("{:.2f} ({:.2f}–{:.2f})".format(*spread(ratios)))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64, help="the exam's too")
    parser.add_argument("--steps", type=int, default=4, help="an epoch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=int, default=8, help="of the first stage")
    parser.add_argument("--depths", type=int, nargs=2, default=[20, 8])
    parser.add_argument("--output", type=Path, help="the JSON file")
    options = parser.parse_args()
    # Random images teach nobody anything: warnings are right, and no news here.
    warnings.filterwarnings("ignore", category=UserWarning)

    keras.utils.set_random_seed(0)
    result = {**circumstances(), "options": {**vars(options), "output": None}}
    todo = variants(options.depths, options.width, images(options.batch, 1))
    wall, processor = measure(todo, options.batch, options.steps, options.rounds)
    result |= {"seconds": wall, "cpu_seconds": processor}
    result["load_after"] = os.getloadavg()[0]
    save(result, "gradient_cost", options.output)
    print(heading(result, options))
    print(table(wall, processor))


if __name__ == "__main__":
    main()
