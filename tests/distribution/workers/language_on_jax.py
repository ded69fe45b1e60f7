"""Language models on a mesh of two by two virtual devices, as KerasHub lays them out.

Argument: the folder for reports.
"""

import os
import sys

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
)

import keras  # noqa: E402
import keras_hub  # noqa: E402
import numpy as np  # noqa: E402

from keras_dtkd import Distiller, rollouts  # noqa: E402
from keras_dtkd.losses import KD  # noqa: E402
from tests.distribution.workers.common import Report, fit_prompts, sgd  # noqa: E402
from tests.language import VOCABULARY  # noqa: E402

ROWS, BATCH = 16, 8


def language_model(seed, width):
    keras.utils.set_random_seed(seed)
    backbone = keras_hub.models.LlamaBackbone(
        vocabulary_size=VOCABULARY,
        num_layers=1,
        num_query_heads=2,
        num_key_value_heads=2,
        hidden_dim=width,
        intermediate_dim=width,
        tie_word_embeddings=True,
    )
    rng = np.random.default_rng(seed)
    for variable in backbone.trainable_variables:
        if "norm" not in variable.path:
            variable.assign(rng.normal(size=variable.shape) / 2)
    return keras_hub.models.LlamaCausalLM(backbone)


def distiller(**kwargs):
    kwargs["rollout"] = rollouts.Speculative(6, k=3, seed=1)
    model = Distiller(language_model(0, 16), language_model(5, 8), KD(1.0), **kwargs)
    model.compile(sgd())
    return model


def fit(name, model):
    report.found[name] = fit_prompts(model, ROWS, batch_size=BATCH)
    report.state(name, model)


report = Report(sys.argv[1])
fit("one", distiller())

mesh = keras.distribution.DeviceMesh(
    (2, 2), ("batch", "model"), keras.distribution.list_devices()
)
layouts = keras_hub.models.LlamaBackbone.get_layout_map(mesh)
keras.distribution.set_distribution(
    keras.distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch")
)
# In chunks, which change nothing either.
model = distiller(chunk_size=5)
before = [weight.numpy().tobytes() for weight in model.teacher.weights]
fit("mesh", model)
after = [weight.numpy().tobytes() for weight in model.teacher.weights]
report.found["teacher_is_untouched"] = before == after
# Of each matrix: how many numbers it has, and how many of them a device.
report.found["shards"] = {
    f"{role} {variable.path}": [variable.value.size, shard.data.size]
    for role in ("teacher", "student")
    for variable in getattr(model, role).variables
    for shard in variable.value.addressable_shards
    if len(variable.shape) > 1
}
report.write()
