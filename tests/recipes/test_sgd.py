"""`TorchSGD` equals PyTorch's SGD, on every backend and with Keras's extensions."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_dtkd.recipes import TorchSGD
from tests.tiny_models import close, data, same, student

STEPS, DROPS = 24, (8, 15)
SHAPES = {"kernel": (3, 4), "bias": (4,), "gamma": (4,)}


def learning_rate(step):
    return 0.1 * 0.1 ** sum(step >= drop for drop in DROPS)


def schedule():
    return keras.optimizers.schedules.PiecewiseConstantDecay(
        [drop - 1 for drop in DROPS], [0.1, 0.01, 0.001]
    )


def initial_weights():
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape) for name, shape in SHAPES.items()}


def gradients(step):
    rng = np.random.default_rng(100 + step)
    return {name: rng.normal(size=shape) for name, shape in SHAPES.items()}


def oracle(momentum, nesterov, decay, excluded=()):
    """The formula of torch's documentation, in float64."""
    weights, buffers = initial_weights(), dict.fromkeys(SHAPES, 0.0)
    for step in range(STEPS):
        for name, g in gradients(step).items():
            g = g + (0.0 if name in excluded else decay) * weights[name]
            buffers[name] = momentum * buffers[name] + g
            g = g + momentum * buffers[name] if nesterov else buffers[name]
            weights[name] = weights[name] - learning_rate(step) * g
    return list(weights.values())


def run(optimizer, exclude=None):
    variables = [keras.Variable(v, name=name) for name, v in initial_weights().items()]
    if exclude is not None:
        optimizer.exclude_from_weight_decay(**exclude(variables))
    for step in range(STEPS):
        grads = [
            keras.ops.convert_to_tensor(g, "float32") for g in gradients(step).values()
        ]
        optimizer.apply(grads, variables)
    return [keras.ops.convert_to_numpy(v.value) for v in variables]


SETTINGS = [(0.9, False, 0.3), (0.9, True, 0.3), (0.0, False, 0.3), (0.9, False, 0.0)]


@pytest.mark.parametrize("momentum, nesterov, decay", SETTINGS)
def test_equals_the_formula_over_a_schedule(momentum, nesterov, decay):
    weights = run(TorchSGD(schedule(), momentum, nesterov, decay))
    assert close(weights, oracle(momentum, nesterov, decay), 2e-6)


@pytest.mark.parametrize("momentum, nesterov, decay", SETTINGS)
def test_equals_torch_over_a_schedule(momentum, nesterov, decay):
    torch = pytest.importorskip("torch")
    weights = [torch.nn.Parameter(torch.tensor(v)) for v in initial_weights().values()]
    optimizer = torch.optim.SGD(
        weights, lr=0.1, momentum=momentum, nesterov=nesterov, weight_decay=decay
    )
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, DROPS, gamma=0.1)
    for step in range(STEPS):
        for weight, g in zip(weights, gradients(step).values(), strict=True):
            weight.grad = torch.tensor(g)
        optimizer.step()
        scheduler.step()
    expected = [weight.detach().numpy() for weight in weights]
    assert close(run(TorchSGD(schedule(), momentum, nesterov, decay)), expected, 2e-6)


def test_keras_sgd_gives_different_weights():
    weights = run(keras.optimizers.SGD(schedule(), 0.9, weight_decay=0.3))
    assert not close(weights, oracle(0.9, False, 0.3), 1e-2)


@pytest.mark.parametrize(
    "exclude, excluded",
    [
        (lambda v: {"var_list": v[1:]}, ("bias", "gamma")),
        (lambda v: {"var_names": ["bia"]}, ("bias",)),
        (lambda v: {"var_list": v[:1], "var_names": ["gamma"]}, ("kernel", "gamma")),
    ],
)
def test_excluded_variables_do_not_decay(exclude, excluded):
    weights = run(TorchSGD(schedule(), 0.9, False, 0.3), exclude)
    assert close(weights, oracle(0.9, False, 0.3, excluded), 2e-6)


def test_exclusion_after_build_raises():
    optimizer = TorchSGD()
    optimizer.build([keras.Variable(np.ones(2))])
    with pytest.raises(ValueError, match="after the optimizer was built"):
        optimizer.exclude_from_weight_decay(var_names=["bias"])


@pytest.mark.parametrize("invalid", [-0.1, float("nan")])
def test_negative_weight_decay_raises(invalid):
    with pytest.raises(ValueError, match=f"weight_decay={invalid}"):
        TorchSGD(weight_decay=invalid)


def trained(optimizer, batch_size=16):
    model = student(norm=True)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    model.fit(*data(64), batch_size, epochs=2, shuffle=False, verbose=0)
    return model


def sgd(**kwargs):
    return TorchSGD(0.1, 0.9, weight_decay=0.1, **kwargs)


@pytest.fixture(scope="module")
def trained_plainly():
    return trained(sgd())


def test_loss_scaling_changes_nothing(trained_plainly):
    assert close(
        trained_plainly, trained(keras.optimizers.LossScaleOptimizer(sgd())), 1e-5
    )
    assert close(trained_plainly, trained(sgd(loss_scale_factor=1024.0)), 1e-5)


def test_gradient_accumulation_applies_the_decay_once():
    def train_dense(batch_size, **kwargs):
        model = student()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(sgd(**kwargs), loss)
        model.fit(*data(64), batch_size, shuffle=False, verbose=0)
        return model

    assert close(train_dense(32), train_dense(16, gradient_accumulation_steps=2), 1e-5)


def test_bfloat16_variables_keep_their_dtype():
    optimizer = sgd()
    variable = keras.Variable(np.ones(3), dtype="bfloat16")
    optimizer.apply([keras.ops.ones(3, dtype="bfloat16")], [variable])
    assert variable.dtype == "bfloat16"
    value = keras.ops.convert_to_numpy(keras.ops.cast(variable.value, "float32"))
    assert np.allclose(value, 1 - 0.1 * 1.1, atol=0.01)


def test_training_continues_bit_for_bit_after_reload(tmp_path):
    def fit(model):
        model.fit(*data(64), 16, shuffle=False, verbose=0)

    model = trained(TorchSGD(schedule(), 0.9, weight_decay=0.1))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is TorchSGD
    fit(model)
    fit(loaded)
    assert same(model, loaded)
    states = [optimizer_state(m.optimizer) for m in (model, loaded)]
    assert same(*states)


def optimizer_state(optimizer):
    return [keras.ops.convert_to_numpy(v.value) for v in optimizer.variables]


def test_json_round_trip_gives_an_equal_optimizer():
    optimizer = TorchSGD(schedule(), 0.9, True, 0.3, clipnorm=1.0)
    config = json.loads(json.dumps(keras.optimizers.serialize(optimizer)))
    restored = keras.optimizers.deserialize(config)
    assert restored.get_config() == optimizer.get_config()
    assert restored.get_config()["weight_decay"] == 0.3
    optimizer.clipnorm = restored.clipnorm = None
    assert same(run(restored), run(optimizer))


MIRRORED = """
import keras, numpy as np, tensorflow as tf
from tests.recipes.test_sgd import sgd, trained
cpu = tf.config.list_physical_devices("CPU")[0]
devices = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, devices)
from tests.tiny_models import close, data, student
def build():
    model = student()
    model.compile(sgd(), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model
single = build()
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    mirrored = build()
before = single.get_weights()
for model in (single, mirrored):
    model.fit(*data(64), 16, shuffle=False, verbose=0)
assert not close(single, before, 1e-3)
assert close(single, mirrored, 1e-5)
"""


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="tf.distribute is TensorFlow's."
)
def test_two_replicas_give_the_weights_of_one():
    env = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    command = [sys.executable, "-c", MIRRORED]
    run = subprocess.run(command, env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
