"""`torch_compile` changes how fast models run, and nothing else."""

import os
import signal

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.callbacks import Resume
from keras_dtkd.losses import KD, FitNet, InputGradientPenalty
from keras_dtkd.views import Mixup
from tests.test_random_teacher import random_teacher
from tests.tiny_models import (
    Counting,
    close,
    data,
    distiller,
    everything,
    numbers,
    same,
    sequence,
    student,
    teacher,
)

layers = keras.layers
IS_TORCH = keras.config.backend() == "torch"
torch_only = pytest.mark.skipif(not IS_TORCH, reason="`torch_compile`")


@pytest.fixture(autouse=True)
def traced_alone(monkeypatch):
    """Graphs are traced and verified, and not compiled, which takes a minute."""
    if IS_TORCH:
        from keras_dtkd.backend import torch_compiled_forward as module

        monkeypatch.setattr(module, "compile_graph", lambda graph: graph)


def fit(build, x, y, torch_compile, epochs=2):
    keras.utils.set_random_seed(0)
    d = build(torch_compile=torch_compile)
    # The last batch of an epoch is shorter.
    options = {"batch_size": 12, "epochs": epochs, "verbose": 0, "shuffle": False}
    return d, d.fit(x, y, **options).history


def tokens(mask_zero):
    def build(**kwargs):
        models = [sequence(seed, mask_zero) for seed in (1, 5)]
        return distiller(teacher=models[0], student=models[1], **kwargs)

    x = np.random.default_rng(0).integers(0, 9, (32, 5))
    return build, x, x % 3


def make_view():
    losses = {"kd": KD(), "mixed": KD(view="mixup")}
    return {"losses": losses, "views": {"mixup": Mixup(seed=1)}}


def networks(build_network, x, make_settings=dict):
    def build(**kwargs):
        keras.utils.set_random_seed(3)
        models = {"teacher": build_network(), "student": build_network()}
        return distiller(**models, **make_settings(), **kwargs)

    return build, x, np.random.default_rng(1).integers(0, 3, len(x))


def images():
    body = [layers.Conv2D(4, 3, padding="same", strides=2), layers.BatchNormalization()]
    body += [layers.ReLU(), layers.GlobalAveragePooling2D(), layers.Dense(3)]
    return keras.Sequential([keras.Input((6, 6, 2)), *body])


def attention():
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(9, 6, mask_zero=True)(inputs)
    x = layers.LayerNormalization()(layers.MultiHeadAttention(2, 3)(x, x) + x)
    x = layers.LSTM(4)(x)
    return keras.Model(inputs, layers.Dense(3)(x))


def low_rank():
    model = student()
    model.layers[0].enable_lora(2)
    return model


def regularized(**kwargs):
    model = student(norm=True)
    model.layers[0].kernel.regularizer = keras.regularizers.L2(0.1)
    model.layers[0].activity_regularizer = keras.regularizers.L2(0.1)
    return distiller(student=model, **kwargs)


def with_features(**kwargs):
    models = [teacher(), student()]
    loss = FitNet([(models[1].layers[0].name, models[0].layers[1].name)])
    return distiller([KD(), loss], teacher=models[0], student=models[1], **kwargs)


def with_norm(**kwargs):
    return distiller(student=student(norm=True), **kwargs)


def with_dropout(**kwargs):
    return distiller(student=student(dropout=0.2), **kwargs)


def options(**settings):
    return lambda **kwargs: distiller(**settings, **kwargs)


X, Y = data(32)
PIXELS = np.random.default_rng(0).normal(size=(32, 6, 6, 2)).astype("float32")
CASES = {
    "conv, BatchNorm": networks(images, PIXELS),
    "attention, LSTM, embedding, mask": networks(attention, tokens(True)[1]),
    "mask of the outputs": tokens(True),
    "dense, BatchNorm": (with_norm, X, Y),
    "regularizers": (regularized, X, Y),
    "features": (with_features, X, Y),
    "view": networks(images, PIXELS, make_view),
    "LoRA": (lambda **kw: distiller(student=low_rank(), **kw), X, Y),
    "input gradients": (lambda **kw: distiller(InputGradientPenalty(), **kw), X, Y),
    "ensemble": (lambda **kw: distiller(teacher=[teacher(), teacher()], **kw), X, Y),
    "evaluation": (options(evaluate_distillation=True), X, Y),
}


@torch_only
@pytest.mark.parametrize("case", CASES)
def test_weights_and_logs_are_those_of_an_eager_run(case, capsys):
    build, x, y = CASES[case]
    expected, eager_logs = fit(build, x, y, False)
    assert not capsys.readouterr().out
    found, logs = fit(build, x, y, True)
    out = capsys.readouterr().out
    if case == "input gradients":
        # They are derivatives of their own, and stay eager.
        assert not out
    else:
        # Each model. The smaller last batch stays eager.
        assert out.count("compiled from here on") == 2 and out.count("\n") == 2
    assert close(found.student, expected.student, 1e-5)
    assert logs.keys() == eager_logs.keys()
    for name, values in logs.items():
        np.testing.assert_allclose(values, eager_logs[name], rtol=1e-4, atol=1e-5)
    if case == "evaluation":
        results = [d.evaluate(x, y, verbose=0) for d in (found, expected)]
        np.testing.assert_allclose(*results, rtol=1e-4)


@torch_only
def test_mixed_precision_trains_as_it_does_eagerly(capsys):
    def build(**kwargs):
        model = student(norm=True, dtype="mixed_bfloat16")
        return distiller(student=model, **kwargs)

    expected, found = (fit(build, X, Y, flag)[0] for flag in (False, True))
    assert capsys.readouterr().out.count("compiled from here on") == 2
    assert close(found.student, expected.student, 1e-2)
    # A gradient reaches the float32 weights, not their copies.
    assert not same(numbers(found.student), numbers(student(norm=True)))


@torch_only
def test_a_student_with_seeded_dropout_learns(capsys):
    d, _ = fit(with_dropout, X, Y, True)
    assert capsys.readouterr().out.count("compiled from here on") == 2
    logs = d.fit(X, Y, epochs=5, verbose=0).history
    assert logs["loss"][-1] < logs["loss"][0]


@torch_only
def test_the_teacher_stays_as_it_is_and_its_random_state_moves_on(capsys):
    model = random_teacher()
    before = everything(model)
    d = distiller(teacher=model, torch_compile=True)
    seeds = [np.array(seed.state) for seed in d.teacher_seeds]
    d.fit(X, Y, batch_size=16, epochs=1, verbose=0)
    assert "the teacher is compiled" in capsys.readouterr().out
    assert everything(model) == before
    moved = [np.array(seed.state) for seed in d.teacher_seeds]
    assert seeds and all((a != b).any() for a, b in zip(seeds, moved, strict=True))


@torch_only
def test_other_models_and_losses_are_compiled_anew(capsys):
    d = distiller(torch_compile=True)
    d.fit(X, Y, batch_size=16, verbose=0)
    d.fit(X, Y, batch_size=16, verbose=0)
    assert capsys.readouterr().out.count("compiled from here on") == 2
    # Of another teacher, also before the next `fit`.
    d.teacher = teacher(scale=-3.0)
    loss = d.compute_losses(X[:16])["kd"].detach()
    fresh = distiller(teacher=teacher(scale=-3.0), student=d.student)
    assert np.isclose(loss, fresh.compute_losses(X[:16])["kd"].detach())
    d.fit(X, Y, batch_size=16, verbose=0)
    assert capsys.readouterr().out.count("compiled from here on") == 2


@torch_only
def test_it_may_be_changed_between_two_runs(capsys):
    d = distiller(torch_compile=False)
    d.fit(X, Y, batch_size=16, verbose=0)
    assert not capsys.readouterr().out
    d.torch_compile = True
    d.fit(X, Y, batch_size=16, verbose=0)
    assert capsys.readouterr().out.count("compiled from here on") == 2


@torch_only
def test_an_interrupt_leaves_a_student_that_goes_on_learning(capsys):
    d = distiller(student=student(norm=True), torch_compile=True)

    def interrupt(batch, logs):
        if batch == 1:
            os.kill(os.getpid(), signal.SIGINT)

    callback = keras.callbacks.LambdaCallback(on_train_batch_begin=interrupt)
    # A process in the background may have begun with SIGINT ignored.
    before_test = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            d.fit(X, Y, batch_size=8, verbose=0, callbacks=[callback])
    finally:
        signal.signal(signal.SIGINT, before_test)
    before = numbers(d.student)
    assert all(np.isfinite(weight).all() for weight in before)
    d.fit(X, Y, batch_size=8, verbose=0)
    assert not same(before, d.student)
    assert capsys.readouterr().out.count("compiled from here on") == 2


@torch_only
def test_a_saved_run_continues_bit_for_bit(tmp_path):
    def build():
        keras.utils.set_random_seed(0)
        return distiller(student=student(norm=True), torch_compile=True)

    fit_options = {"batch_size": 16, "shuffle": False, "verbose": 0}
    uninterrupted = build()
    uninterrupted.fit(X, Y, epochs=2, **fit_options)
    part = build()
    part.fit(X, Y, epochs=1, **fit_options)
    part.save(tmp_path / "d.keras")
    loaded = keras.saving.load_model(tmp_path / "d.keras")
    loaded.teacher = teacher()
    assert loaded.get_config()["torch_compile"] is True
    loaded.fit(X, Y, initial_epoch=1, epochs=2, **fit_options)
    assert same(uninterrupted.student, loaded.student)


@torch_only
def test_auto_compiles_nothing_in_a_run_that_is_resumed(capsys, tmp_path, monkeypatch):
    from keras_dtkd.backend import torch_compiled_forward as module

    monkeypatch.setattr(module, "PATIENCE", 0.0)
    monkeypatch.setattr(module, "can_compile", lambda: True)
    d = distiller()
    options = {"batch_size": 16, "verbose": 0, "callbacks": [Resume(tmp_path)]}
    d.fit(X, Y, **options)
    assert "the student is compiled" not in capsys.readouterr().out
    d.fit(X, Y, batch_size=16, verbose=0)
    assert "the student is compiled" in capsys.readouterr().out
    d.fit(X, Y, epochs=2, initial_epoch=1, **options)
    assert "the student is compiled" not in capsys.readouterr().out


SLOW = {
    "recurrent": lambda: keras.layers.Bidirectional(layers.GRU(2)),
    "random": lambda: keras.Sequential([layers.RandomRotation(0.1), layers.Flatten()]),
}


@torch_only
@pytest.mark.parametrize("kind", SLOW)
def test_auto_leaves_alone_what_takes_minutes_to_compile(kind, capsys, monkeypatch):
    from keras_dtkd.backend import torch_compiled_forward as module

    monkeypatch.setattr(module, "PATIENCE", 0.0)
    monkeypatch.setattr(module, "can_compile", lambda: True)
    shape = (3, 2) if kind == "recurrent" else (4, 4, 3)
    x, y = np.ones((16, *shape), "float32"), np.zeros(16, "int64")

    def build(layer):
        net = [keras.Input(shape), layer, layers.Dense(3)]
        return keras.Sequential(net)

    slow, other = build(SLOW[kind]()), build(layers.Flatten())
    for pair in ((slow, other), (other, slow)):
        Distiller(*pair, KD()).fit(x, y, verbose=0)
        out = capsys.readouterr().out
        names = "teacher", "student"
        compiled = [f"the {name} is compiled" in out for name in names]
        # A teacher changes no images.
        teacher_is_fast = kind == "random" or pair[0] is other
        assert compiled == [teacher_is_fast, pair[1] is other]


def test_auto_does_not_compile_a_short_run(capsys):
    d, _ = fit(distiller, X, Y, "auto")
    assert "compiled" not in capsys.readouterr().out
    assert d.get_config()["torch_compile"] == "auto"


@pytest.mark.skipif(IS_TORCH, reason="other backends")
def test_it_changes_nothing_on_other_backends(capsys):
    d, _ = fit(distiller, X, Y, True, epochs=1)
    assert close(d.student, fit(distiller, X, Y, False, epochs=1)[0].student, 1e-7)
    assert not capsys.readouterr().out


@pytest.mark.single_backend
@pytest.mark.parametrize("name, value", [("torch_compile", "yes"), ("from_logits", 1)])
def test_another_value_is_an_error_whenever_it_is_set(name, value):
    match = f"`{name}` must be one of True, False, 'auto'"
    with pytest.raises(ValueError, match=match):
        Distiller(teacher(), student(), KD(), **{name: value})
    d = distiller()
    with pytest.raises(ValueError, match=match):
        setattr(d, name, value)
    assert getattr(d, name) != value


class Center(layers.Layer):
    """Subtracts a moving mean, which it keeps in float32."""

    def build(self, shape):
        self.mean = self.add_weight((shape[-1],), "zeros", trainable=False)

    def call(self, inputs, training=None):
        if training:
            inputs = keras.ops.stop_gradient(inputs)
            mean = keras.ops.mean(keras.ops.cast(inputs, "float32"), 0)
            self.mean.assign(0.5 * (self.mean + mean))
        return inputs - self.mean


def with_center():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = keras.Sequential([keras.Input((6,)), layers.Dense(4)])
        model.add(Center(dtype="float32"))
        model.add(layers.Dense(4, dtype="float32"))
    finally:
        keras.config.set_dtype_policy("float32")
    return model


@pytest.mark.parametrize("loss", [KD(), InputGradientPenalty()])
@pytest.mark.parametrize("torch_compile", [False, True])
def test_float32_state_in_a_mixed_student_moves_on(loss, torch_compile):
    if torch_compile and not IS_TORCH:
        pytest.skip("`torch_compile`")
    d = distiller(loss, student=with_center(), torch_compile=torch_compile)
    d.fit(X, Y, batch_size=16, verbose=0)
    assert np.abs(np.array(d.student.layers[1].mean)).min() > 0


class OwnLoss(keras.Sequential):
    factor = 0.1

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        loss = keras.losses.sparse_categorical_crossentropy(y, y_pred, True)
        return keras.ops.mean(loss) + self.factor * sum(self.losses)


class OwnLossOfOneLayer(OwnLoss):
    @property
    def losses(self):
        return self.layers[0].losses


@torch_only
@pytest.mark.parametrize("kind", [OwnLoss, OwnLossOfOneLayer])
def test_a_students_own_loss_reads_what_its_layers_add(kind, capsys):
    def build(**kwargs):
        regularizer = keras.regularizers.L2(1.0)
        body = [layers.Dense(4, activity_regularizer=regularizer), layers.Dense(4)]
        small = kind([keras.Input((6,)), *body])
        small.compile(keras.optimizers.SGD(0.1))
        return Distiller(teacher(), small, KD(), task_weight=0.5, **kwargs)

    weights = []
    for torch_compile in (False, True):
        d, _ = fit(build, X, Y, torch_compile)
        weights.append(numbers(d.student))
    assert capsys.readouterr().out.count("compiled from here on") == 2
    assert close(*weights, 1e-6)


@torch_only
def test_settings_that_a_callback_changes_are_followed(capsys):
    """Dropout, which ends with the first epoch."""
    curves = []
    for torch_compile in (False, True):
        keras.utils.set_random_seed(0)
        small = student(dropout=0.9)
        (dropout,) = (a for a in small.layers if isinstance(a, layers.Dropout))

        def end(epoch, logs=None, dropout=dropout):
            dropout.rate = 0.0 if epoch else 0.9

        d = distiller(student=small, torch_compile=torch_compile)
        callback = keras.callbacks.LambdaCallback(on_epoch_begin=end)
        options = {"epochs": 3, "batch_size": 16, "verbose": 0, "shuffle": False}
        curves.append(d.fit(X, Y, callbacks=[callback], **options).history["kd"])
    # The second time for the student alone, and not in the third epoch.
    assert capsys.readouterr().out.count("the student is compiled") == 2
    assert np.allclose(curves[0][2], curves[1][2], rtol=0.2)


@torch_only
def test_other_settings_between_two_runs_are_followed():
    norm = layers.Normalization()
    norm.adapt(X)
    arguments = {"factor": np.float32(1.0)}
    scale = layers.Lambda(
        lambda x, factor: keras.ops.multiply(x, factor), arguments=arguments
    )
    dense = layers.Dense(4, "relu")
    small = keras.Sequential([keras.Input((6,)), norm, scale, dense])
    d = distiller(student=small, torch_compile=True)
    options = {"batch_size": 32, "verbose": 0}
    d.fit(X, Y, **options)
    for change in (
        lambda: norm.adapt(10 * X + 5),
        lambda: setattr(dense, "activation", keras.activations.tanh),
        lambda: scale.arguments.update({"factor": [3.0] * 6}),
    ):
        change()
        fresh = distiller(teacher=d.teacher, student=small, torch_compile=False)
        expected = float(fresh.compute_losses(X, Y)["kd"].detach())
        assert np.isclose(d.fit(X, Y, **options).history["kd"][0], expected)


class KeepsScores(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.count = Counting()

    def call(self, inputs):
        self.scores = keras.ops.softmax(inputs)
        return self.count(inputs)


def test_what_a_layer_keeps_of_each_call_is_no_other_setting():
    keeps = KeepsScores()
    small = keras.Sequential([keras.Input((6,)), keeps, layers.Dense(4)])
    d = distiller(student=small, torch_compile=True)
    calls = []
    for _ in range(3):
        before = keeps.count.counts["calls"]
        d.fit(X, Y, batch_size=16, epochs=2, verbose=0)
        calls.append(keeps.count.counts["calls"] - before)
    # Under PyTorch it runs eagerly in each step, and is not compiled each time.
    assert calls[1] == calls[2] == (2 * len(X) // 16 if IS_TORCH else 0)


@torch_only
@pytest.mark.parametrize(
    "change",
    [
        lambda dense: setattr(dense.activity_regularizer, "l2", 7.0),
        lambda dense: setattr(dense, "activity_regularizer", keras.regularizers.L1(9)),
    ],
)
def test_another_regularizer_between_two_runs_is_followed(change):
    dense = layers.Dense(4, activity_regularizer=keras.regularizers.L2(0.1))
    small = keras.Sequential([keras.Input((6,)), dense])
    d = distiller(student=small, torch_compile=True)
    options = {"batch_size": 32, "verbose": 0}
    d.fit(X, Y, **options)
    change(dense)
    weights = small.get_weights()
    found = d.fit(X, Y, **options).history["loss"][0]
    small.set_weights(weights)
    d.torch_compile = False
    assert np.isclose(found, d.fit(X, Y, **options).history["loss"][0])


@torch_only
def test_run_eagerly_compiles_nothing(capsys):
    d = distiller(torch_compile=True)
    d.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    d.run_eagerly = True
    d.fit(X, Y, batch_size=16, verbose=0)
    assert not capsys.readouterr().out


@torch_only
def test_train_on_batch_compiles_both(capsys):
    d = distiller(torch_compile=True)
    for _ in range(2):
        d.train_on_batch(X[:16], Y[:16])
    assert capsys.readouterr().out.count("compiled from here on") == 2


@torch_only
def test_outside_of_a_run_other_weights_in_a_scope_are_used():
    d = distiller(torch_compile=True)
    d.fit(X, Y, batch_size=32, verbose=0)
    last = d.student.trainable_variables[-2]
    with keras.StatelessScope([(last, 50 * last.value.detach())]):
        found = float(d.compute_losses(X)["kd"].detach())
    last.assign(50 * last.value.detach())
    assert np.isclose(found, float(d.compute_losses(X)["kd"].detach()))
