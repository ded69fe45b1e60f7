"""One of two processes under `torchrun`. Argument: the folder for reports."""

import itertools
import sys
from pathlib import Path

import keras
import numpy as np
import torch

from keras_dtkd import callbacks
from keras_dtkd.backend import torch_compiled_forward
from keras_dtkd.distribution import sharding
from tests.distribution.workers.common import (
    BATCH,
    INTERACTIVE,
    Report,
    adam,
    aligned,
    data,
    distiller,
    fit,
    interactive,
    language,
    network,
    sgd,
)

torch.distributed.init_process_group("gloo")
RANK, WORLD = sharding.rank(), sharding.world_size()
FOLDER = Path(sys.argv[1])
report = Report(FOLDER, RANK)


def part(*arrays, batch_size=BATCH):
    return sharding.shard(*arrays, batch_size=batch_size)


mine = {"part": part, "batch_size": BATCH // WORLD}
# Each rank begins with another student: rank 0's counts.
report.fit("sgd", distiller(sgd(), seed=5 + RANK), 43, **mine)
report.fit("adam", distiller(adam(), seed=5 + RANK), 43, **mine)
report.fit("accumulation", distiller(adam(gradient_accumulation_steps=2)), 43, **mine)
scaled = keras.optimizers.LossScaleOptimizer(sgd(), initial_scale=1024.0)
report.fit("loss_scale", distiller(scaled), 43, **mine)
report.fit("aligned", aligned(sgd(), seed=5 + RANK), 43, **mine)
report.fit_prompts("language", language(sgd(), seed=5 + RANK), 32, **mine)

# Both processes run graphs.
torch_compiled_forward.compile_graph = lambda graph: graph
compiled = distiller(sgd(), seed=5 + RANK, torch_compile=True)
report.fit("compiled", compiled, 43, **mine)

# The same, where the teacher learns too; rank 0's counts as well.
for name, options in INTERACTIVE.items():
    model = interactive(sgd(), network(16, 1 + RANK), seed=5 + RANK, **options)
    report.fit(name, model, 43, **mine)

# The gradients of one row, in one process, are not finite: nobody takes that step.
x, y, sample_weight = part(*data(43))
sample_weight[-1] = 1.0 if RANK == 0 else np.inf
scaled = keras.optimizers.LossScaleOptimizer(sgd(), initial_scale=1024.0)
model = distiller(scaled)
fit(model, 43, sample_weight=sample_weight, **mine)
report.state("infinite", model)


class Alone(keras.callbacks.Callback):
    """Rank 0 alone looks at something in the middle of `fit`."""

    def on_epoch_end(self, epoch, logs=None):
        if RANK == 0:
            x, y, _ = data(8)
            report.found["alone"] = self.model.evaluate(x, y, verbose=0)
            self.model.predict(x, verbose=0)


x, y, _ = part(*data(43))
report.fit(
    "validation",
    distiller(sgd(), evaluate_distillation=True),
    43,
    validation_data=(x, y),
    callbacks=[Alone()],
    **mine,
)

model = distiller(sgd(), seed=5 + RANK)
x, y, sample_weight = data(43)
for start in range(0, 43, BATCH):
    rows = slice(start, start + BATCH)
    model.train_on_batch(*part(x[rows], y[rows], sample_weight[rows]))
report.state("train_on_batch", model)


# Stop after an epoch and go on, with what rank 0 wrote.
def writers():
    return [
        keras.callbacks.BackupAndRestore(FOLDER / "backup", delete_checkpoint=False),
        keras.callbacks.ModelCheckpoint(str(FOLDER / f"best{RANK}.keras")),
        keras.callbacks.CSVLogger(str(FOLDER / f"log{RANK}.csv")),
    ]


fit(distiller(adam()), 43, epochs=1, callbacks=writers(), **mine)
torch.distributed.barrier()
resumed = distiller(adam(), seed=7 + RANK)
report.fit("resumed", resumed, 43, callbacks=writers(), **mine)


# The same by Resume, whose file is removed while others might read.
def resume():
    callback = callbacks.Resume(FOLDER / "state")
    return {"callbacks": [callback], "initial_epoch": callback.epoch, **mine}


fit(distiller(adam()), 43, epochs=1, **resume())
torch.distributed.barrier()
report.fit("by_resume", distiller(adam(), seed=7 + RANK), 43, **resume())

# What would otherwise hang.
report.error("epochs", lambda: fit(distiller(sgd()), 43, initial_epoch=RANK, **mine))
report.error("steps", lambda: fit(distiller(sgd()), 16 * (RANK + 1), batch_size=8))


def other_student():
    small = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    fit(distiller(sgd(), model=small if RANK else None), 43, **mine)


def endless(batches, make=distiller):
    x, y, _ = data(8)
    model = make(sgd())
    model.fit(itertools.repeat((x, y), batches), verbose=0)


report.error("models", other_student)
report.error("generators", lambda: endless(3 + 2 * RANK))
report.error("exams", lambda: endless(3 + 2 * RANK, interactive))


class Stop(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        self.model.stop_training = RANK == 1


report.error("stopped", lambda: fit(distiller(sgd()), 43, callbacks=[Stop()], **mine))
# All is well again afterwards.
report.fit("after", distiller(sgd()), 43, **mine)
report.write()
torch.distributed.destroy_process_group()
