"""Compiled forward passes have the results, gradients and effects of eager ones."""

import collections
import contextlib
import shutil
import types

import keras
import numpy as np
import pytest

from keras_dtkd import backend
from keras_dtkd.core.masking import get_mask
from tests.tiny_models import Counting, data, sequence, student

pytestmark = pytest.mark.skipif(
    keras.config.backend() != "torch", reason="JAX and TensorFlow compile steps."
)
layers = keras.layers


@pytest.fixture
def module():
    from keras_dtkd.backend import torch_compiled_forward

    return torch_compiled_forward


@pytest.fixture
def traced_alone(module, monkeypatch):
    """Graphs are traced and verified, and not compiled, which takes a minute."""
    monkeypatch.setattr(module, "compile_graph", lambda graph: graph)
    return module


class Penalty(layers.Layer):
    def call(self, inputs):
        self.add_loss(0.1 * keras.ops.mean(inputs**2))
        return inputs


def images():
    net = [layers.Conv2D(3, 3, padding="same", strides=2), layers.BatchNormalization()]
    net += [layers.ReLU(), Penalty(), layers.GlobalAveragePooling2D(), layers.Dense(4)]
    return keras.Sequential([keras.Input((6, 6, 2)), *net])


def attention(mask_zero=True):
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(9, 6, mask_zero=mask_zero)(inputs)
    x = layers.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True)
    return keras.Model(inputs, layers.Dense(3)(layers.LayerNormalization()(x)))


def recurrent():
    net = [layers.Embedding(9, 6, mask_zero=True), layers.LSTM(4), layers.Dense(3)]
    return keras.Sequential([keras.Input((5,), dtype="int32"), *net])


def normalized():
    """Its mean is a tensor, and not a variable."""
    layer = layers.Normalization()
    layer.adapt(3.0 * X + 1.0)
    return keras.Sequential([keras.Input((X.shape[1],)), layer, layers.Dense(4)])


def dense(**kwargs):
    return student(norm=True, **kwargs)


TOKENS = np.random.default_rng(0).integers(0, 9, (8, 5))
IMAGES = np.random.default_rng(0).normal(size=(8, 6, 6, 2)).astype("float32")
X = data(8)[0]
NETWORKS = {
    "conv, BatchNorm, add_loss": (images, IMAGES),
    "dense": (dense, X),
    "Normalization": (normalized, X),
    "dropout without a seed": (lambda: dense_with_dropout(None), X),
    "attention and mask": (attention, TOKENS),
    "LSTM": (recurrent, TOKENS),
    "embedding with mask": (sequence, TOKENS),
    "bfloat16": (lambda: dense(dtype="mixed_bfloat16"), X),
}


def dense_with_dropout(seed):
    net = [layers.Dense(8), layers.Dropout(0.5, seed=seed), layers.Dense(4)]
    return keras.Sequential([keras.Input((X.shape[1],)), *net])


def forward_and_backward(model, x, **options):
    """Outputs, mask, losses, gradients, variables after two calls."""
    import torch

    keras.utils.set_random_seed(1)
    losses: list = []
    run = model
    if options:
        run = backend.compile_forward(
            lambda x, training: model(x, training=training),
            model.variables,
            "a model",
            layers=[model],
            add_loss=lambda layer, loss: losses.append(loss),
            **options,
        )
    x = keras.ops.convert_to_tensor(x)
    for variable in model.trainable_variables:
        variable.value.grad = None
    for _ in range(2):
        losses.clear()
        outputs = run(x, training=True) if not options else run(x, True)
        total = (outputs.float() ** 2).mean() + sum(losses or model.losses)
        total.backward()
    values = [outputs, total, *(v.value for v in model.variables)]
    values += [v.value.grad for v in model.trainable_variables]
    mask = get_mask(outputs)
    values += [] if mask is None else [mask]
    with torch.no_grad():
        return [np.array(value.detach().float().clone()) for value in values]


def test_a_layer_that_changes_its_own_tensor_runs_eagerly(traced_alone, capsys):
    import torch

    means = []
    for when in (False, True):
        torch.manual_seed(0)
        norm = torch.nn.BatchNorm1d(X.shape[1])
        layer = layers.TorchModuleWrapper(norm)
        run = backend.compile_forward(
            lambda x, layer=layer: layer(x, training=True), layer.variables, "it", when
        )
        for _ in range(3):
            run(keras.ops.convert_to_tensor(X))
        means.append(np.array(norm.running_mean))
    assert "(ValueError: a layer changes a tensor" in capsys.readouterr().out
    np.testing.assert_array_equal(*means)


class WithTable(layers.Layer):
    """Makes its table in the first call of each length."""

    def __init__(self):
        super().__init__()
        self.tables, self.last = collections.OrderedDict(), types.SimpleNamespace()
        self.lengths = set()

    def call(self, inputs):
        length = inputs.shape[-1]
        if length not in self.lengths:
            self.lengths.add(length)
            self.tables[length] = keras.ops.sin(keras.ops.arange(length) / 2)
            self.last.table = self.tables[length]
        return inputs + keras.ops.cast(self.tables[length], inputs.dtype)


def test_a_table_that_a_layer_keeps_is_one_with_values(traced_alone, capsys):
    import torch

    layer = WithTable()
    run = backend.compile_forward(lambda x: layer(x), [], "it", True, [layer])
    for x in 2 * [X[:, :3], X]:
        expected = x + np.sin(np.arange(x.shape[1]) / 2)
        np.testing.assert_allclose(np.array(run(x)), expected, rtol=1e-6)
    assert capsys.readouterr().out.count("compiled from here on") == 2
    assert [*layer.tables] == [3, X.shape[1]] == [*layer.lengths]
    for table in (*layer.tables.values(), layer.last.table):
        assert type(table) is torch.Tensor


class Keeping(layers.Layer):
    """Keeps the mean of each call, and of all that were there before."""

    def __init__(self):
        super().__init__()
        self.means = []
        self.total = keras.ops.zeros(())

    def call(self, inputs):
        self.means.append(keras.ops.mean(inputs))
        self.total = self.total + self.means[-1]
        return inputs * self.total


def test_a_layer_that_keeps_what_it_computes_runs_eagerly(traced_alone, capsys):
    layer, total = Keeping(), 0.0
    run = backend.compile_forward(lambda x: layer.call(x), [], "it", True, [layer])
    for number in (1.0, 2.0, 3.0):
        total += number
        outputs = run(np.full((2, 3), number, "float32"))
        assert np.allclose(np.array(outputs), number * total)
    assert [float(mean) for mean in layer.means] == [1.0, 2.0, 3.0]
    out = capsys.readouterr().out
    assert out.count("a layer keeps a tensor of its call as `means`") == 1


def test_an_error_leaves_what_a_layer_keeps_as_it_was(traced_alone, capsys):
    layer, clip = Keeping(), ClippedGradient()
    scale = keras.Variable(1.0)

    def keep_and_clip(x):
        return clip(layer.call(x) * scale)

    run = backend.compile_forward(keep_and_clip, [scale], "it", True, [layer, clip])
    for number in (1.0, 2.0):
        run(np.full((2, 3), number, "float32"))
    assert float(layer.total) == 3.0 and len(layer.means) == 2
    assert "a layer has a gradient of its own" in capsys.readouterr().out


@pytest.mark.parametrize("without_gradient", [False, True])
def test_a_layer_that_changes_a_variable_in_place_runs_eagerly(
    traced_alone, capsys, without_gradient
):
    import torch

    total = keras.Variable(np.zeros(3, "float32"), trainable=False)

    def add(x):
        context = torch.no_grad() if without_gradient else contextlib.nullcontext()
        with context:
            total.value.add_(x.detach().sum(0))
        return x - total.value

    run = backend.compile_forward(add, [total], "it", True)
    for number in (1, 2, 3):
        run(np.ones((2, 3), "float32"))
        assert np.allclose(np.array(total), 2 * number)
    assert "changes the tensor of a variable in place" in capsys.readouterr().out


def test_a_variable_that_is_not_the_models_is_used_eagerly(traced_alone, capsys):
    counter = keras.Variable(0.0, trainable=False)

    def count(x):
        counter.assign_add(1.0)
        return x + counter

    run = backend.compile_forward(count, [], "it", True)
    for number in (1.0, 2.0, 3.0):
        assert np.allclose(np.array(run(keras.ops.zeros((2,)))), number)
    assert "assigns a variable that its model does not have" in capsys.readouterr().out


@pytest.mark.parametrize("name", NETWORKS)
def test_results_gradients_masks_losses_and_updates_are_those_of_eager(
    traced_alone, capsys, name
):
    build, x = NETWORKS[name]
    model = build()
    model(keras.ops.convert_to_tensor(x))
    before = model.get_weights()
    expected = forward_and_backward(model, x)
    model.set_weights(before)
    found = forward_and_backward(model, x, when=True)
    assert "compiled from here on" in capsys.readouterr().out
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_seeded_dropout_has_its_distribution_and_moves_on(traced_alone, capsys):
    layer = layers.Dropout(0.25, seed=3)
    run = backend.compile_forward(
        lambda x: layer(x, training=True), layer.variables, "a layer", True
    )
    x, before = keras.ops.ones((4000,)), np.array(layer.variables[0])
    first, second = (np.array(run(x)) for _ in range(2))
    assert "compiled from here on" in capsys.readouterr().out
    for drawn in (first, second):
        assert set(np.unique(drawn)) == {np.float32(0), np.float32(1 / 0.75)}
        assert abs((drawn == 0).mean() - 0.25) < 0.03
    assert 0.2 < (first != second).mean() < 0.6
    # Twice in eager calls, twice in these.
    after = np.array(layer.variables[0])
    assert (after - before == [0, 2]).all()


class DependsOnData(layers.Layer):
    def call(self, inputs):
        return inputs * (2.0 if float(keras.ops.sum(inputs)) > 0 else 3.0)


class ReadsNumPy(layers.Layer):
    def call(self, inputs):
        return inputs * keras.ops.convert_to_numpy(inputs).mean()


class OtherGradient(layers.Layer):
    def call(self, inputs):
        @keras.ops.custom_gradient
        def double(x):
            return 2 * x, lambda *args, upstream=None: 7 * (args or [upstream])[0]

        return double(inputs)


@pytest.mark.parametrize("layer", [DependsOnData, ReadsNumPy])
def test_what_depends_on_values_in_python_runs_eagerly(traced_alone, capsys, layer):
    layer = layer()
    run = backend.compile_forward(lambda x: layer(x), [], "a layer", True)
    for sign in (1.0, -1.0):
        x = keras.ops.convert_to_tensor(sign * np.ones((2, 3), "float32"))
        assert np.allclose(np.array(run(x)), np.array(layer(x)))
    out = capsys.readouterr().out
    assert out.count("a layer is not compiled (") == 1 and out.count("\n") == 1


class ClippedGradient(layers.Layer):
    """Its gradient is that of a graph, where it is small."""

    def call(self, inputs):
        @keras.ops.custom_gradient
        def clip(x):
            def gradient(*args, upstream=None):
                return keras.ops.clip(upstream, -9.0, 9.0)

            return 2 * x, gradient

        return clip(inputs)


class Hooked(layers.Layer):
    def call(self, inputs):
        outputs = 2 * inputs
        if outputs.requires_grad:
            outputs.register_hook(lambda gradient: gradient.clamp(-9.0, 9.0))
        return outputs


class WithoutGradient(layers.Layer):
    def call(self, inputs):
        import torch

        with torch.no_grad():
            rest = 3 * inputs
        return 2 * inputs + rest


@pytest.mark.parametrize(
    "layer, reason, gradient",
    [
        (OtherGradient, "a layer has a gradient of its own", 14),
        (ClippedGradient, "a layer has a gradient of its own", 18),
        (Hooked, "a layer registers a hook on a tensor", 36),
        (WithoutGradient, "other gradients", 200),
    ],
)
def test_a_gradient_that_a_graph_does_not_have_is_found_out(
    traced_alone, capsys, layer, reason, gradient
):
    layer = layer()
    scale = keras.Variable(np.ones(3, "float32"))
    run = backend.compile_forward(
        lambda x: layer(x * scale), [scale], "a layer", True, [layer]
    )
    (50 * run(keras.ops.ones((2, 3)))).sum().backward()
    assert f"not compiled (ValueError: {reason}" in capsys.readouterr().out
    assert np.allclose(np.array(scale.value.grad), gradient)


@pytest.fixture
def python_runs(traced_alone, monkeypatch):
    """A function that counts how often a compiled layer runs in Python."""
    monkeypatch.setattr(traced_alone, "PATIENCE", 0.0)
    monkeypatch.setattr(traced_alone, "can_compile", lambda: True)
    monkeypatch.setattr(traced_alone, "CALLS_BEFORE_ANOTHER", 3)
    monkeypatch.setattr(traced_alone, "MAX_SIGNATURES", 2)
    counting = Counting()
    runs = {}

    def count(when, shape, calls):
        before = counting.counts["calls"]
        if when not in runs:
            layer = backend.compile_forward(counting.call, [], "a layer", when)
            runs[when] = layer
        for _ in range(calls):
            runs[when](keras.ops.ones(shape))
        return counting.counts["calls"] - before

    return count


def test_auto_runs_another_shape_eagerly_until_it_is_frequent(python_runs):
    # Traced and verified: two runs in Python.
    assert python_runs("auto", (4, 2), 10) == 2
    assert python_runs("auto", (3, 2), 10) == 3 + 2
    assert python_runs("auto", (2, 2), 10) == 10
    assert python_runs("auto", (4, 2), 10) == 0


def test_the_rest_of_an_epoch_is_not_worth_compiling(python_runs):
    """For a run that is resumed too: it depends on no clock and no count."""
    assert python_runs(True, (4, 2), 10) == 2
    assert python_runs(True, (3, 2), 10) == 10
    assert python_runs(True, (3, 3), 10) == 2
    assert python_runs(True, (4, 4), 10) == 10
    assert python_runs(True, (4, 2), 10) == 0


def test_auto_waits_until_compiling_pays(traced_alone, monkeypatch):
    import torch

    x = keras.ops.ones((4, 2))

    def is_compiled(patience):
        monkeypatch.setattr(traced_alone, "PATIENCE", patience)
        counting = Counting()
        run = backend.compile_forward(lambda x: counting(x), [], "a layer")
        for _ in range(5):
            run(x)
        return counting.counts["calls"] < 5

    monkeypatch.setattr(traced_alone.shutil, "which", lambda name: None)
    assert not is_compiled(0.0)
    monkeypatch.setattr(traced_alone.shutil, "which", lambda name: name)
    assert is_compiled(0.0) and not is_compiled(60.0)
    # Else a run would have other bits from some moment on.
    torch.use_deterministic_algorithms(True)
    try:
        assert not is_compiled(0.0)
    finally:
        torch.use_deterministic_algorithms(False)


def run_both(function, variables, x, calls=3):
    """Results of eager and of compiled calls, and what these print."""
    values = [np.array(v) for v in variables]
    results = []
    for when in (False, True):
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        run = backend.compile_forward(function, variables, "it", when)
        for _ in range(calls):
            result = run(keras.ops.convert_to_tensor(x))
        result.sum().backward()
        results.append([np.array(v) for v in (result.detach(), *variables)])
    return results


def test_a_counter_that_python_reads_is_no_random_state(traced_alone, capsys):
    scale = keras.Variable(np.ones(3, "float32"))
    count = keras.Variable(0, dtype="int32", trainable=False)

    def step(x):
        factor = 0.1 if int(count) < 1000 else 10.0
        count.assign_add(1)
        return x * scale * factor

    for eager, found in zip(*run_both(step, [scale, count], X[:, :3]), strict=True):
        np.testing.assert_array_equal(eager, found)
    assert "depends on the values of tensors" in capsys.readouterr().out


def test_a_layer_that_assigns_what_is_trained_runs_eagerly(traced_alone, capsys):
    weight = keras.Variable(np.full(3, 2.0, "float32"))

    def normalize(x):
        weight.assign(weight / keras.ops.norm(weight))
        return x * weight

    for eager, found in zip(*run_both(normalize, [weight], X[:, :3]), strict=True):
        np.testing.assert_array_equal(eager, found)
    assert "assigns a variable that is trained" in capsys.readouterr().out


def test_a_layer_that_assigns_what_its_gradient_needs_runs_eagerly(
    traced_alone, capsys
):
    """The assignment comes before the backward pass, in place."""
    scale = keras.Variable(np.ones(3, "float32"))
    factor = keras.Variable(1.0, trainable=False)

    def anneal(x):
        y = x * scale * factor.value.clone()
        factor.assign(0.9 * factor)
        return y

    def keep_alive(graph):
        # As a compiled graph does, which reads its inputs in its backward pass.
        def run(values, tensors):
            y, new = graph(values, tensors)
            return [y.detach() + values[0] * tensors[0] * values[1] - y.detach(), new]

        return run

    traced_alone.compile_graph = keep_alive
    for eager, found in zip(*run_both(anneal, [scale, factor], X[:, :3]), strict=True):
        np.testing.assert_allclose(eager, found, 1e-6)
    assert "modified by an inplace operation" in capsys.readouterr().out


def test_a_shape_that_fails_leaves_the_others_compiled(traced_alone, capsys):
    layer = layers.Dense(2)
    layer.build((None, 6))
    run = backend.compile_forward(lambda x: layer(x), layer.variables, "it", True)
    run(keras.ops.convert_to_tensor(X))
    with pytest.raises(ValueError, match="expected axis -1 of input shape"):
        run(keras.ops.convert_to_tensor(X[:, :5]))
    run(keras.ops.convert_to_tensor(X))
    out = capsys.readouterr().out
    assert out.count("compiled from here on") == 1
    assert out.count("For (8, 5) it runs as") == 1


def test_more_shapes_than_are_compiled_are_named(traced_alone, capsys, monkeypatch):
    monkeypatch.setattr(traced_alone, "MAX_SIGNATURES", 1)
    run = backend.compile_forward(lambda x: 2 * x, [], "it", True)
    for length in (3, 4, 5):
        run(keras.ops.ones((2, length)))
    assert capsys.readouterr().out.count("compiled for 1 shapes, and no others") == 1


def test_inputs_that_a_layer_changes_in_place_change_once(traced_alone):
    run = backend.compile_forward(lambda x: x.mul_(0.5), [], "it", True)
    x = keras.ops.ones((2, 3))
    run(x)
    assert np.allclose(np.array(x), 0.5)


def test_false_gives_the_function_itself():
    assert backend.compile_forward(len, [], "a function", False) is len


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs it.")
def test_torch_compile_gives_the_results_and_gradients_of_eager(capsys):
    model = dense()
    before = model.get_weights()
    expected = forward_and_backward(model, X)
    model.set_weights(before)
    found = forward_and_backward(model, X, when=True)
    assert "compiled from here on" in capsys.readouterr().out
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
