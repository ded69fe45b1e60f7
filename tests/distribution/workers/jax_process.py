"""One of two JAX processes with a device each. Arguments: folder, rank, port."""

import sys
from pathlib import Path

import jax
import keras

folder, rank, port = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
jax.config.update("jax_cpu_collectives_implementation", "gloo")
keras.distribution.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=rank)

from keras_dtkd import callbacks  # noqa: E402
from keras_dtkd.distribution import sharding  # noqa: E402
from tests.distribution.workers.common import (  # noqa: E402
    BATCH,
    Report,
    adam,
    distiller,
    fit,
    interactive,
    language,
    sgd,
    teacher,
)

report = Report(folder, rank)
report.found["processes"] = [sharding.rank(), sharding.world_size()]
early_teacher, early_distiller = teacher(), distiller(adam())
# Each process brings its own rows.
keras.distribution.set_distribution(
    keras.distribution.DataParallel(auto_shard_dataset=False)
)


def part(*arrays):
    return sharding.shard(*arrays, batch_size=BATCH)


mine = {"part": part, "batch_size": BATCH // sharding.world_size()}
# One row of 48 is left over: two devices cannot share it.
report.fit("sgd", distiller(sgd()), 45, **mine)
report.fit_prompts("language", language(sgd()), 32, **mine)
report.fit("feedback", interactive(sgd()), 48, **mine)
writers = [
    keras.callbacks.ModelCheckpoint(str(folder / f"best{rank}.keras")),
    keras.callbacks.BackupAndRestore(folder / "backup", delete_checkpoint=False),
    keras.callbacks.CSVLogger(str(folder / f"log{rank}.csv")),
]
fit(early_distiller, 48, epochs=1, callbacks=writers, **mine)
# Both read what rank 0 wrote.
jax.experimental.multihost_utils.sync_global_devices("written")
resumed = distiller(adam(), early_teacher, seed=7)
report.fit("resumed", resumed, 48, callbacks=writers[1:2], **mine)


def resume():
    callback = callbacks.Resume(folder / "state")
    return {"callbacks": [callback], "initial_epoch": callback.epoch, **mine}


fit(distiller(adam()), 48, epochs=1, **resume())
jax.experimental.multihost_utils.sync_global_devices("written again")
report.fit("by_resume", distiller(adam(), seed=7), 48, **resume())
report.error("epochs", lambda: fit(distiller(sgd()), 48, initial_epoch=rank, **mine))
report.error("steps", lambda: fit(distiller(sgd()), 16 * (rank + 1), batch_size=8))
if rank == 0:
    keras.distribution.set_distribution(None)
    early_distiller.student.save(folder / "student.keras")
report.write()
