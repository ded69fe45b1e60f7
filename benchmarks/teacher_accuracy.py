"""Accuracy of the published CIFAR-100 teacher, converted, on this backend.

    KERAS_BACKEND=jax python benchmarks/teacher_accuracy.py ../shared/data/cifar100

The folder contains `test.npz`, see cifar100_shards.py, and
`teacher-resnet32x4-fp16.npz`. The authors report 78.72 % top-1, computed in bfloat16;
this is float32.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from cifar100_shards import load
from machine import BACKEND, environment_info

from keras_dtkd import models

REPORTED = 0.7872


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, help="number of images, from the first")
    parser.add_argument("--batch", type=int, default=200)
    parser.add_argument("--output", type=Path, help="the JSON file")
    arguments = parser.parse_args()

    teacher = models.get("resnet32x4", data_format="channels_last")
    models.load_sequential_npz(
        teacher, arguments.folder / "teacher-resnet32x4-fp16.npz"
    )
    x, y = load(arguments.folder / "test.npz", arguments.samples)
    start = time.perf_counter()
    logits = teacher.predict(x, batch_size=arguments.batch, verbose=0)
    seconds = time.perf_counter() - start
    logits = logits.astype("float64")
    indices = np.arange(len(y))
    log_z = np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1))
    top5 = np.argsort(-logits, axis=-1)[:, :5]
    result = {
        **environment_info(),
        "samples": len(y),
        "correct": int((top5[:, 0] == y).sum()),
        "top1": float((top5[:, 0] == y).mean()),
        "top5": float((top5 == y[:, None]).any(-1).mean()),
        "cross_entropy": float((log_z + logits.max(-1) - logits[indices, y]).mean()),
        "reported_top1": REPORTED,
        "seconds": seconds,
    }
    path = Path(__file__).parent / "results" / f"teacher_accuracy-{BACKEND}.json"
    path = arguments.output or path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(
        f"{BACKEND}: {result['correct']} of {len(y)} correct, top-1 "
        f"{result['top1']:.2%} (reported {REPORTED:.2%}), top-5 "
        f"{result['top5']:.2%}, cross-entropy {result['cross_entropy']:.4f}, "
        f"{seconds:.0f} s."
    )


if __name__ == "__main__":
    main()
