"""Generated tokens per second in training, by rollout.

    KERAS_BACKEND=jax python benchmarks/rollout_speed.py

Two llamas of KerasHub with random weights, prompts of 8 random tokens. `fit` of two
epochs, of which the second is timed as a whole: with `rollouts.Data`, which trains on
given tokens, and with rollouts that generate them in every step.
"""

import argparse
import sys
from pathlib import Path

import keras
import numpy as np
from machine import environment_info, save
from step_time import Clock

from keras_dtkd import Distiller, losses, models, rollouts

PROMPT = 8
ROLLOUTS = {
    "given tokens": rollouts.Data,
    "the teacher's": rollouts.Teacher,
    "the student's": rollouts.Student,
    "the student's, corrected, K = 5": lambda **kwargs: rollouts.Speculative(
        k=5, **kwargs
    ),
}


def make_prompts(options, count, length):
    rng = np.random.default_rng(0)
    tokens = rng.integers(2, options.vocabulary, size=(count, length), dtype="int32")
    mask = np.ones(tokens.shape, "int32")
    response = np.zeros(tokens.shape, "int32")
    response[:, PROMPT:] = 1
    return {"token_ids": tokens, "padding_mask": mask, "response_mask": response}


def measure(name, batch, options):
    """Wall-clock and processor seconds per step."""
    keras.utils.set_random_seed(0)
    teacher, student = (
        models.llama_tiny(
            layers,
            options.width,
            4 * options.width,
            options.heads,
            options.heads,
            options.vocabulary,
        )
        for layers in options.layers
    )
    student.compile(keras.optimizers.Adam(1e-4), loss=None, weighted_metrics=None)
    rollout = ROLLOUTS[name](max_length=options.length, seed=0)
    distiller = Distiller(
        teacher, student, losses.KD(1.0), task_weight=0.0, rollout=rollout
    )
    length = options.length if name == "given tokens" else PROMPT
    prompts = make_prompts(options, batch * options.steps, length)
    if name != "given tokens":
        del prompts["response_mask"]
    clock = Clock()
    distiller.fit(prompts, batch_size=batch, epochs=2, verbose=0, callbacks=[clock])
    return ((clock.ends[1] - clock.ends[0]) / options.steps).tolist()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--steps", type=int, default=4, help="steps per epoch")
    parser.add_argument("--length", type=int, default=64, help="prompt included")
    parser.add_argument(
        "--layers", type=int, nargs=2, default=[5, 2], help="teacher, student"
    )
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--vocabulary", type=int, default=512)
    parser.add_argument(
        "--precision", choices=["float32", "bfloat16"], default="float32"
    )
    parser.add_argument("--output", type=Path, help="the JSON file of the results")
    options = parser.parse_args()
    if options.precision == "bfloat16":
        keras.config.set_dtype_policy("mixed_bfloat16")
    settings = {k: v for k, v in vars(options).items() if k != "output"}
    settings["prompt"] = PROMPT
    result = {**environment_info(), **settings, "seconds": {}, "cpu_seconds": {}}
    print("| tokens | batch | ms a step | tokens a second | CPU time, ms a step |")
    print("|---|---|---|---|---|")
    for batch in options.batches:
        for name in ROLLOUTS:
            wall, processor = measure(name, batch, options)
            key = f"{batch}, {name}"
            result["seconds"][key], result["cpu_seconds"][key] = wall, processor
            speed = batch * (options.length - PROMPT) / wall
            print(
                f"| {name} | {batch} | {1000 * wall:.1f} | {speed:,.0f} | "
                f"{1000 * processor:.1f} |",
            )
            sys.stdout.flush()
    save(result, "rollout_speed", options.output)


if __name__ == "__main__":
    main()
