"""Kill a run with a rollout at random times, resume it, and compare the weights.

    KERAS_BACKEND=jax python benchmarks/kill_rollout.py

Speculative distillation of a small KerasHub Llama with random weights, with
`callbacks.Resume`. One run is trained without interruption; another is killed with
SIGKILL `--kills` times in the middle of an epoch. Compared bit for bit at the end: the
student, the optimizer's state, the rollout's random state.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

from keras_dtkd import Distiller, callbacks, losses, models, rollouts

LENGTH, PROMPTS, BATCH = 24, 256, 8


def train(folder, epochs):
    """A run that goes on from what `folder` holds; its state goes to `folder`.npz."""

    def llama(width, seed):
        keras.utils.set_random_seed(seed)
        heads = {"num_query_heads": 2, "num_key_value_heads": 1}
        return models.llama_tiny(1, width, 2 * width, vocabulary_size=64, **heads)

    token_ids = np.random.default_rng(0).integers(1, 64, (PROMPTS, 4), "int32")
    prompts = {"token_ids": token_ids, "padding_mask": np.ones_like(token_ids)}
    student = llama(16, 1)
    student.compile(keras.optimizers.Adam(1e-3), None)
    rollout = rollouts.Speculative(LENGTH, k=8, stop_token_ids=[0], seed=2)
    d = Distiller(llama(32, 0), student, losses.GeneralizedJSD(0.5), rollout=rollout)

    class Step(keras.callbacks.Callback):
        """Prints how far the run is, for the process that kills it."""

        def on_train_batch_end(self, batch, logs=None):
            print(self.epoch, batch, flush=True)

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

    resume = callbacks.Resume(folder)
    d.fit(
        prompts,
        batch_size=BATCH,
        epochs=epochs,
        initial_epoch=resume.epoch,
        callbacks=[resume, Step()],
        # `Resume` needs an order that depends on the epoch alone.
        shuffle=False,
        verbose=0,
    )
    state = *student.variables, *d.optimizer.variables, *rollout.variables
    np.savez(f"{folder}.npz", *map(keras.ops.convert_to_numpy, state))


def start(folder, epochs):
    command = [sys.executable, __file__, f"--train={folder}", f"--epochs={epochs}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def kill(folder, epochs, steps):
    """Kills a run `steps` steps after its first. Returns the epoch and the step."""
    process = start(folder, epochs)
    for _ in range(steps):
        process.stdout.readline()
    found = process.stdout.readline().split()
    process.kill()
    process.wait()
    if not found:
        sys.exit("The run ended before it was killed: pass more --epochs.")
    return [int(number) for number in found]


def main():
    from machine import environment_info, save

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--seed", type=int, help="seed of the times of the kills")
    parser.add_argument("--train", type=Path, help="train in this process")
    args = parser.parse_args()
    if args.train:
        return train(args.train, args.epochs)
    rng, kills = random.Random(args.seed), []
    with tempfile.TemporaryDirectory() as scratch:
        unbroken, broken = (Path(scratch) / name for name in ("unbroken", "broken"))
        begin = time.perf_counter()
        start(unbroken, args.epochs).communicate()
        seconds = time.perf_counter() - begin
        # Up to an epoch and a half, and never at the end of an epoch.
        for _ in range(args.kills):
            steps = rng.randrange(1, PROMPTS // BATCH * 3 // 2)
            steps += steps % (PROMPTS // BATCH) == 0
            kills.append(kill(broken, args.epochs, steps))
            print("killed in epoch {}, step {}".format(*kills[-1]), flush=True)
        start(broken, args.epochs).communicate()
        files = [np.load(f"{folder}.npz") for folder in (unbroken, broken)]
        one, two = ([file[name] for name in file.files] for file in files)
        is_same = len(one) == len(two) and all(map(np.array_equal, one, two))
    result = {
        "same": is_same,
        "arrays": len(one),
        "kills": kills,
        "epochs": args.epochs,
        "unbroken_seconds": seconds,
    }
    save({**result, **environment_info()}, "kill_rollout")
    print(f"{len(one)} arrays {'equal bit for bit' if is_same else 'DIFFER'}")
    return sys.exit(not is_same)


if __name__ == "__main__":
    main()
