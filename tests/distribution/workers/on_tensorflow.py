"""`MirroredStrategy` on two virtual devices. Argument: the folder for reports."""

import sys

import tensorflow as tf

import keras_dtkd
from tests.distribution.workers.common import (
    Report,
    adam,
    aligned,
    data,
    distiller,
    fit,
    language,
    sgd,
    student,
    teacher,
)

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
report = Report(sys.argv[1])
x, y, _ = data(43)


def both(name, rows, make, **kwargs):
    """The same on one device, where nothing need be traced, and on two."""
    tf.config.run_functions_eagerly(True)
    report.fit(f"{name}/one", make(), rows, **kwargs)
    tf.config.run_functions_eagerly(False)
    with strategy.scope():
        model = make()
    report.fit(f"{name}/two", model, rows, **kwargs)


# The last batch has 11 rows: 6 and 5.
outside = teacher()
both(
    "sgd",
    43,
    lambda: distiller(sgd(), outside, evaluate_distillation=True),
    validation_data=(x, y),
)
# The last batch has one row: one and none. Without XLA, which compiles slowly.
both("adam", 33, lambda: distiller(adam(), jit=False))
both("aligned", 43, lambda: aligned(sgd(), jit=False))
# Compiled by the Distiller, in `fit`, out of the scope.
both("uncompiled", 43, lambda: keras_dtkd.Distiller(teacher(), student()))
tf.config.run_functions_eagerly(True)
report.fit_prompts("language/one", language(sgd()), 32)
tf.config.run_functions_eagerly(False)
with strategy.scope():
    model = language(sgd())
report.fit_prompts("language/two", model, 32)
# `fit` itself in the scope, too.
with strategy.scope():
    report.fit("in_scope/two", distiller(sgd(), outside), 32)
report.fit("in_scope/one", distiller(sgd(), outside), 32)

with strategy.scope():
    inside = student()
inside_only = keras_dtkd.Distiller(teacher(), inside)
report.error("distiller_outside", lambda: fit(inside_only, 43))
outsider = student()
with strategy.scope():
    outside_only = keras_dtkd.Distiller(teacher(), outsider)
report.error("student_outside", lambda: fit(outside_only, 43))
report.write()
