"""A teacher that learns, on two virtual devices. Argument: the folder for reports."""

import sys

import tensorflow as tf

from tests.distribution.workers.common import (
    INTERACTIVE,
    Report,
    fit,
    interactive,
    sgd,
    teacher,
)

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
report = Report(sys.argv[1])

for name, options in INTERACTIVE.items():
    with strategy.scope():
        model = interactive(sgd(), **options)
    # The last batch has one row: one and none.
    report.fit(name, model, 33)

outside = teacher()
with strategy.scope():
    outside_only = interactive(sgd(), outside)
report.error("teacher_outside", lambda: fit(outside_only, 33))
report.write()
