"""`CoupledSGD` is torch's SGD, on every backend and through all that Keras adds."""

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


def rate(step):
    return 0.1 * 0.1 ** sum(step >= drop for drop in DROPS)


def schedule():
    return keras.optimizers.schedules.PiecewiseConstantDecay(
        [drop - 1 for drop in DROPS], [0.1, 0.01, 0.001]
    )


def start():
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape) for name, shape in SHAPES.items()}


def gradients(step):
    rng = np.random.default_rng(100 + step)
    return {name: rng.normal(size=shape) for name, shape in SHAPES.items()}


def oracle(momentum, nesterov, decay, spared=()):
    """The formula of torch's documentation, in float64."""
    weights, gathered = start(), dict.fromkeys(SHAPES, 0.0)
    for step in range(STEPS):
        for name, g in gradients(step).items():
            g = g + (0.0 if name in spared else decay) * weights[name]
            gathered[name] = momentum * gathered[name] + g
            g = g + momentum * gathered[name] if nesterov else gathered[name]
            weights[name] = weights[name] - rate(step) * g
    return list(weights.values())


def run(optimizer, spare=None):
    variables = [keras.Variable(v, name=name) for name, v in start().items()]
    if spare is not None:
        optimizer.exclude_from_weight_decay(**spare(variables))
    for step in range(STEPS):
        grads = [
            keras.ops.convert_to_tensor(g, "float32") for g in gradients(step).values()
        ]
        optimizer.apply(grads, variables)
    return [keras.ops.convert_to_numpy(v.value) for v in variables]


SETTINGS = [(0.9, False, 0.3), (0.9, True, 0.3), (0.0, False, 0.3), (0.9, False, 0.0)]


@pytest.mark.parametrize("momentum, nesterov, decay", SETTINGS)
def test_is_the_formula_over_a_schedule(momentum, nesterov, decay):
    weights = run(TorchSGD(schedule(), momentum, nesterov, decay))
    assert close(weights, oracle(momentum, nesterov, decay), 2e-6)


@pytest.mark.parametrize("momentum, nesterov, decay", SETTINGS)
def test_is_torch_over_a_schedule(momentum, nesterov, decay):
    torch = pytest.importorskip("torch")
    weights = [torch.nn.Parameter(torch.tensor(v)) for v in start().values()]
    optimizer = torch.optim.SGD(
        weights, lr=0.1, momentum=momentum, nesterov=nesterov, weight_decay=decay
    )
    falling = torch.optim.lr_scheduler.MultiStepLR(optimizer, DROPS, gamma=0.1)
    for step in range(STEPS):
        for weight, g in zip(weights, gradients(step).values(), strict=True):
            weight.grad = torch.tensor(g)
        optimizer.step()
        falling.step()
    theirs = [weight.detach().numpy() for weight in weights]
    assert close(run(TorchSGD(schedule(), momentum, nesterov, decay)), theirs, 2e-6)


def test_keras_own_sgd_is_another_method():
    own = run(keras.optimizers.SGD(schedule(), 0.9, weight_decay=0.3))
    assert not close(own, oracle(0.9, False, 0.3), 1e-2)


@pytest.mark.parametrize(
    "spare, spared",
    [
        (lambda v: {"var_list": v[1:]}, ("bias", "gamma")),
        (lambda v: {"var_names": ["bia"]}, ("bias",)),
        (lambda v: {"var_list": v[:1], "var_names": ["gamma"]}, ("kernel", "gamma")),
    ],
)
def test_what_is_excluded_does_not_decay(spare, spared):
    weights = run(TorchSGD(schedule(), 0.9, False, 0.3), spare)
    assert close(weights, oracle(0.9, False, 0.3, spared), 2e-6)


def test_an_exclusion_that_comes_too_late_is_refused():
    optimizer = TorchSGD()
    optimizer.build([keras.Variable(np.ones(2))])
    with pytest.raises(ValueError, match="too late"):
        optimizer.exclude_from_weight_decay(var_names=["bias"])


@pytest.mark.parametrize("wrong", [-0.1, float("nan")])
def test_a_negative_decay_is_refused(wrong):
    with pytest.raises(ValueError, match=f"weight_decay={wrong}"):
        TorchSGD(weight_decay=wrong)


def trained(optimizer, batch_size=16):
    model = student(norm=True)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    model.fit(*data(64), batch_size, epochs=2, shuffle=False, verbose=0)
    return model


def sgd(**kwargs):
    return TorchSGD(0.1, 0.9, weight_decay=0.1, **kwargs)


@pytest.fixture(scope="module")
def plain():
    return trained(sgd())


def test_scaling_the_loss_changes_nothing(plain):
    assert close(plain, trained(keras.optimizers.LossScaleOptimizer(sgd())), 1e-5)
    assert close(plain, trained(sgd(loss_scale_factor=1024.0)), 1e-5)


def test_gradients_gathered_over_two_batches_decay_once():
    def dense(batch_size, **kwargs):
        model = student()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(sgd(**kwargs), loss)
        model.fit(*data(64), batch_size, shuffle=False, verbose=0)
        return model

    assert close(dense(32), dense(16, gradient_accumulation_steps=2), 1e-5)


def test_half_precision_keeps_its_dtype():
    optimizer = sgd()
    variable = keras.Variable(np.ones(3), dtype="bfloat16")
    optimizer.apply([keras.ops.ones(3, dtype="bfloat16")], [variable])
    assert variable.dtype == "bfloat16"
    value = keras.ops.convert_to_numpy(keras.ops.cast(variable.value, "float32"))
    assert np.allclose(value, 1 - 0.1 * 1.1, atol=0.01)


def test_goes_on_from_a_file_bit_for_bit(tmp_path):
    def fit(model):
        model.fit(*data(64), 16, shuffle=False, verbose=0)

    model = trained(TorchSGD(schedule(), 0.9, weight_decay=0.1))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert type(again.optimizer) is TorchSGD
    fit(model)
    fit(again)
    assert same(model, again)
    states = [[np.array(v) for v in numbers_of(m.optimizer)] for m in (model, again)]
    assert same(*states)


def numbers_of(optimizer):
    return [keras.ops.convert_to_numpy(v.value) for v in optimizer.variables]


def test_is_made_again_from_json():
    optimizer = TorchSGD(schedule(), 0.9, True, 0.3, clipnorm=1.0)
    config = json.loads(json.dumps(keras.optimizers.serialize(optimizer)))
    again = keras.optimizers.deserialize(config)
    assert again.get_config() == optimizer.get_config()
    assert again.get_config()["weight_decay"] == 0.3
    optimizer.clipnorm = again.clipnorm = None
    assert same(run(again), run(optimizer))


MIRRORED = """
import keras, numpy as np, tensorflow as tf
from tests.recipes.test_coupled_sgd import sgd, trained
cpu = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
from tests.models import close, data, student
def model():
    made = student()
    made.compile(sgd(), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return made
one = model()
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    two = model()
before = one.get_weights()
for made in (one, two):
    made.fit(*data(64), 16, shuffle=False, verbose=0)
assert not close(one, before, 1e-3)
assert close(one, two, 1e-5)
"""


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="tf.distribute is TensorFlow's."
)
def test_two_replicas_decay_as_one_does():
    env = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    command = [sys.executable, "-c", MIRRORED]
    run = subprocess.run(command, env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
