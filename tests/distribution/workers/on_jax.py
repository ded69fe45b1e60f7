"""Four virtual devices in one process. Argument: the folder for reports."""

import os
import sys

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
)

import keras  # noqa: E402

from tests.distribution.workers.common import (  # noqa: E402
    Report,
    adam,
    aligned,
    data,
    distiller,
    fit,
    sgd,
    teacher,
)

report = Report(sys.argv[1])
devices = keras.distribution.list_devices()
optimizers = {"sgd": sgd, "adam": adam}
x, y, _ = data(44)


def make(name="sgd", by=None):
    return distiller(optimizers[name](), by, evaluate_distillation=True)


def halves():
    """Kernels and biases of all Dense layers halved, batches too."""
    mesh = keras.distribution.DeviceMesh((2, 2), ("batch", "model"), devices)
    layouts = keras.distribution.LayoutMap(mesh)
    layouts[".*dense.*kernel"] = (None, "model")
    layouts[".*dense.*bias"] = ("model",)
    return keras.distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch")


# Made before there is any distribution.
early_teacher, early_distiller = teacher(), make("adam")
# The last batch has 12 rows.
report.fit("sgd/one", make(), 44, validation_data=(x, y))
# Of one size only: each is compiled.
report.fit("adam/one", make("adam"), 48)
report.fit("aligned/one", aligned(sgd()), 48)

parallel = keras.distribution.DataParallel(devices=devices[:2])
keras.distribution.set_distribution(parallel)
report.fit("sgd/two", make(), 44, validation_data=(x, y))
report.fit("aligned/two", aligned(sgd()), 48)
report.error("uneven", lambda: fit(make(), 43))
report.error("uneven_batch", lambda: fit(make(), 44, batch_size=15))
rest = {"validation_data": (x[:41], y[:41])}
report.error("uneven_validation", lambda: fit(make(), 44, **rest))
split = {"validation_split": 0.25, "sample_weight": None}
report.error("uneven_split", lambda: fit(make(), 44, **split))

keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
report.fit("adam/four", make("adam"), 48)
report.fit("adam/early_distiller", early_distiller, 48)

before = [weight.numpy().tobytes() for weight in early_teacher.weights]
keras.distribution.set_distribution(halves())
model = make("adam", early_teacher)
report.fit("adam/halves", model, 48)
kernel = model.student.layers[0].kernel.value
report.found["shards"] = [list(shard.data.shape) for shard in kernel.addressable_shards]
after = [weight.numpy().tobytes() for weight in early_teacher.weights]
report.found["teacher_is_untouched"] = before == after
report.write()
