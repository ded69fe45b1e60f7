"""A teacher that learns, on four virtual devices. Argument: the folder for reports."""

import os
import sys

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
)

import keras  # noqa: E402

from tests.distribution.workers.common import (  # noqa: E402
    INTERACTIVE,
    Report,
    interactive,
    sgd,
)

report = Report(sys.argv[1])
devices = keras.distribution.list_devices()
# Made before there is any distribution.
early = interactive(sgd())

keras.distribution.set_distribution(
    keras.distribution.DataParallel(devices=devices[:2])
)
for name, options in INTERACTIVE.items():
    report.fit(name, interactive(sgd(), **options), 48)
report.fit("early", early, 48)

# Kernels of all Dense layers halved, the teacher's too, and batches.
mesh = keras.distribution.DeviceMesh((2, 2), ("batch", "model"), devices)
layouts = keras.distribution.LayoutMap(mesh)
layouts[".*dense.*kernel"] = (None, "model")
keras.distribution.set_distribution(
    keras.distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch")
)
model = interactive(sgd())
report.fit("halves", model, 48)
kernel = model.trainable_teacher.layers[0].kernel.value
report.found["shards"] = [list(shard.data.shape) for shard in kernel.addressable_shards]
report.write()
