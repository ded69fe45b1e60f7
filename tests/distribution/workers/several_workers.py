"""One of two `MultiWorkerMirroredStrategy` workers. Arguments: folder, rank, ports."""

import json
import os
import sys

folder, rank, *ports = sys.argv[1:]
os.environ["TF_CONFIG"] = json.dumps(
    {
        "cluster": {"worker": [f"127.0.0.1:{port}" for port in ports]},
        "task": {"type": "worker", "index": int(rank)},
    }
)

import tensorflow as tf  # noqa: E402

strategy = tf.distribute.MultiWorkerMirroredStrategy()

from tests.distribution.workers.common import (  # noqa: E402
    Report,
    data,
    distiller,
    fit,
    sgd,
    student,
)

report = Report(folder, rank)
x, y, _ = data(32)
with strategy.scope():
    plain = student()
    plain.compile("sgd", "mse")
    model = distiller(sgd())
report.error("plain", lambda: plain.fit(x, x[:, :4], verbose=0))
report.error("ours", lambda: fit(model, 32))
report.write()
