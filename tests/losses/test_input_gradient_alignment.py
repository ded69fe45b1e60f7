"""InputGradientAlignment equals its formula, and trains as it should."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import Distiller, diagnose
from keras_dtkd.losses import KD, InputGradientAlignment, InputGradientPenalty
from keras_dtkd.training import input_gradients
from tests import oracles_networks as networks
from tests import tiny_models
from tests.logit_cases import assert_close
from tests.tensors import tensor
from tests.tiny_models import Counting, numbers

IGA = InputGradientAlignment
BATCH = 6
CE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def array(a):
    return np.asarray(ops.convert_to_numpy(a), "float64")


def weights_of(model):
    return [np.array(w, "float64") for w in model.get_weights()]


def oracle(difference, norm="per_sample", squared=False):
    """From the gradients of the sum of losses: one value for the batch."""
    if norm == "per_sample":
        lengths = np.sqrt((difference**2).reshape(len(difference), -1).sum(-1))
        return (lengths**2 if squared else lengths).mean()
    # As the authors: gradients of the mean loss, one norm over all, divided by B.
    length = np.linalg.norm((difference / len(difference)).ravel())
    return (length**2 if squared else length) / len(difference)


def pair(name="dense"):
    return networks.build(name, seed=1), networks.build(name, seed=2)


def difference(teacher, student, x, y, name="dense", target=None):
    target = y if target is None else target
    return networks.gradient(name, weights_of(student), x, target) - networks.gradient(
        name, weights_of(teacher), x, target
    )


def value(teacher, student, loss, x, y=None, **options):
    d = Distiller(teacher, student, {"iga": loss}, **options)
    y = None if y is None else ops.convert_to_tensor(y)
    return float(ops.convert_to_numpy(d.compute_losses(tensor(x), y)["iga"]))


def fitted(d, x, y=None, sample_weight=None, optimizer=None, **options):
    """The Distiller, after one compiled step, and its logs."""
    compiled = {"jit_compile": options.pop("jit_compile", "auto")}
    loss = None if y is None else CE
    d.compile(optimizer or keras.optimizers.SGD(1.0), loss, **compiled)
    logs = d.fit(
        x.astype("float32"),
        y,
        sample_weight=sample_weight,
        batch_size=len(x),
        shuffle=False,
        verbose=0,
        **options,
    )
    return {name: values[-1] for name, values in logs.history.items()}


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("norm", ["per_sample", "batch"])
@pytest.mark.parametrize("form", ["sparse", "column", "one-hot"])
def test_equals_the_formula(norm, squared, form):
    (teacher, student), (x, y) = pair(), networks.draw_data("dense", BATCH)
    given = {"sparse": y, "column": y[:, None], "one-hot": tiny_models.one_hot(y, 3)}[
        form
    ]
    found = value(teacher, student, IGA(norm=norm, squared=squared), x, given)
    expected = oracle(difference(teacher, student, x, y), norm, squared)
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("labels", [None, "some"])
def test_labels_may_be_the_teachers_predictions(labels):
    (teacher, student), (x, y) = pair(), networks.draw_data("dense", BATCH)
    choice = np.asarray(teacher.predict(x, verbose=0)).argmax(-1)
    assert (choice != y).any()
    given = None if labels is None else y
    found = value(teacher, student, IGA(labels="teacher"), x, given)
    expected = oracle(difference(teacher, student, x, y, target=choice))
    assert found == pytest.approx(expected, rel=1e-4)


def test_soft_labels_stay_soft():
    (teacher, student), (x, _) = pair(), networks.draw_data("dense", BATCH)
    y = np.random.default_rng(3).dirichlet(np.ones(3), BATCH).astype("float32")
    # The gradient is linear in the labels.
    expected = sum(
        y[:, k, None] * difference(teacher, student, x, np.full(BATCH, k))
        for k in range(3)
    )
    found = value(teacher, student, IGA(), x, y)
    assert found == pytest.approx(oracle(expected), rel=1e-4)


@pytest.mark.parametrize("norm", ["per_sample", "batch"])
def test_samples_misclassified_by_the_teacher_can_be_excluded(norm):
    (teacher, student), (x, y) = pair(), networks.draw_data("dense", BATCH)
    right = np.asarray(teacher.predict(x, verbose=0)).argmax(-1) == y
    assert 0 < right.sum() < BATCH
    loss = IGA(norm=norm, teacher_correct_only=True)
    kept = difference(teacher, student, x, y) * right[:, None]
    found = value(teacher, student, loss, x, y)
    assert found == pytest.approx(oracle(kept, norm), rel=1e-4)


@pytest.mark.parametrize("heads", [("softmax", None), (None, "softmax")])
def test_softmax_outputs_give_the_same_loss(heads):
    (teacher, student), (x, y) = pair(), networks.draw_data("dense", BATCH)
    plain = value(teacher, student, IGA(), x, y)
    with_heads = [
        keras.Sequential([m, keras.layers.Softmax()]) if head else m
        for m, head in zip((teacher, student), heads, strict=True)
    ]
    assert value(*with_heads, IGA(), x, y) == pytest.approx(plain, rel=1e-4)


def test_a_sigmoid_sums_over_labels():
    x, _ = tiny_models.data(8)
    y = tiny_models.one_hot(np.arange(8) % tiny_models.CLASSES)
    large, small = (
        tiny_models.teacher("sigmoid", scale=0.5),
        tiny_models.student("sigmoid"),
    )
    kernel, bias = (np.float64(w) for w in small.get_weights()[:2])
    out, last = (np.float64(w) for w in small.get_weights()[2:])
    hidden = np.tanh(x @ kernel + bias)
    slope = 1 / (1 + np.exp(-(hidden @ out + last))) - y
    g = (slope @ out.T * (1 - hidden**2)) @ kernel.T
    found = value(large, small, InputGradientPenalty(), x, y)
    assert found == pytest.approx(np.linalg.norm(g, axis=-1).mean(), rel=1e-4)


def test_inputs_may_be_nested():
    def model(seed):
        start = keras.initializers.GlorotUniform(seed)
        parts = {"a": keras.Input((3,), name="a"), "b": keras.Input((2,), name="b")}
        joined = keras.layers.Concatenate()([parts["a"], parts["b"]])
        out = keras.layers.Dense(3, kernel_initializer=start)(joined)
        return keras.Model(parts, out)

    x, y = networks.draw_data("dense", BATCH)
    x = x.astype("float32")
    nested = {"a": x[:, :3], "b": x[:, 3:]}
    large, small = model(1), model(2)

    def gradient(m):
        w = np.float64(m.get_weights()[0])
        z = np.exp(x @ w)
        return (z / z.sum(-1, keepdims=True) - tiny_models.one_hot(y, 3)) @ w.T

    d = Distiller(large, small, IGA(weight=0.5), task_weight=0.0)
    d.compile(keras.optimizers.SGD(0.1), CE)
    logs = d.fit(nested, y, batch_size=BATCH, verbose=0, shuffle=False).history
    assert logs["input_gradient_alignment"][0] > 0
    fresh = Distiller(large, model(2), {"iga": IGA()})
    found = fresh.compute_losses(keras.tree.map_structure(tensor, nested), tensor(y))
    expected = oracle(gradient(model(2)) - gradient(large))
    assert float(array(found["iga"])) == pytest.approx(expected, rel=1e-4)


# In training.


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("name", networks.NETWORKS)
@pytest.mark.graph
def test_a_compiled_step_follows_its_gradient(name):
    teacher, student = networks.build("dense", 1), networks.build(name, 2)
    (x, y) = networks.draw_data(name, BATCH)
    if name != "dense":
        shape = networks.NETWORKS[name].shape
        start = keras.initializers.GlorotUniform(1)
        last = keras.layers.Dense(3, kernel_initializer=start)
        teacher = keras.Sequential([keras.Input(shape), keras.layers.Flatten(), last])
    kernel = [np.float64(w) for w in teacher.get_weights()]

    def pull(x):
        if name == "dense":
            return networks.gradient(name, kernel, x, y)
        z = np.exp(x.reshape(BATCH, -1) @ kernel[0] + kernel[1])
        slope = z / z.sum(-1, keepdims=True) - tiny_models.one_hot(y, 3)
        return (slope @ kernel[0].T).reshape(x.shape)

    before, target = weights_of(student), pull(x)
    trained = {id(v) for v in student.trainable_variables}
    d = Distiller(teacher, student, IGA(), task_weight=0.0)
    logs = fitted(d, x, y)

    def loss(weights):
        return oracle(networks.gradient(name, weights, x, y) - target)

    assert logs["input_gradient_alignment"] == pytest.approx(loss(before), rel=1e-4)
    step = [b - a for a, b in zip(weights_of(student), before, strict=True)]
    rng = np.random.default_rng(3)
    for _ in range(3):
        moves = [rng.normal(size=v.shape) * (id(v) in trained) for v in student.weights]
        sides = [
            loss([w + h * m for w, m in zip(before, moves, strict=True)])
            for h in (1e-5, -1e-5)
        ]
        expected = (sides[0] - sides[1]) / 2e-5
        found = sum((s * m).sum() for s, m in zip(step, moves, strict=True))
        assert abs(expected) > 1e-3
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)


class Adding(keras.layers.Layer):
    """Adds a loss of its own."""

    def call(self, x):
        self.add_loss(0.01 * ops.mean(x**2))
        return x


def rich(policy=None):
    """All that a student might do besides computing outputs."""
    l2 = keras.regularizers.L2(0.01)

    def start(seed):
        return {"kernel_initializer": keras.initializers.GlorotUniform(seed)}

    layers = keras.layers
    parts = [
        Counting(dtype=policy),
        layers.Dense(
            8, kernel_regularizer=l2, activity_regularizer=l2, dtype=policy, **start(1)
        ),
        layers.BatchNormalization(dtype=policy),
        layers.Activation("tanh", dtype=policy),
        Adding(dtype=policy),
        layers.Dropout(0.3, seed=5, dtype=policy),
        layers.Dense(tiny_models.CLASSES, dtype=policy, **start(2)),
    ]
    model = keras.Sequential([keras.Input((tiny_models.FEATURES,)), *parts])
    if policy:
        model.dtype_policy = keras.DTypePolicy(policy)
    return model


def trained(losses, policy=None, **fit):
    x, y = tiny_models.data(24)
    small = rich(policy)
    d = Distiller(tiny_models.teacher(), small, losses)
    d.compile(keras.optimizers.SGD(0.1), CE)
    options = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0, **fit}
    logs = d.fit(x, y, **options).history
    states = [array(v.value) for v in small.variables]
    return d, logs, states


@pytest.mark.invariant(number=1)
@pytest.mark.parametrize(
    "estimator, policy, tolerance",
    [
        ("exact", None, 1e-5),
        ("finite_difference", None, 1e-5),
        ("exact", "mixed_bfloat16", 5e-3),
    ],
)
def test_weight_zero_trains_like_without_the_loss(estimator, policy, tolerance):
    # BatchNorm's statistics, dropout's states, regularizers, losses of layers.
    weights = np.random.default_rng(0).uniform(size=24)
    _, logs, states = trained(KD(), policy, sample_weight=weights)
    loss = IGA(weight=0.0, estimator=estimator, squared=True)
    _, with_it, others = trained([KD(), loss], policy, sample_weight=weights)
    for one, other in zip(states, others, strict=True):
        assert_close(one, other, tolerance)
    assert with_it.pop("input_gradient_alignment")[0] > 0
    for name, values in logs.items():
        assert with_it[name] == pytest.approx(values, rel=10 * tolerance), name


@pytest.mark.invariant(number=6)
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_gives_the_same_loss_up_to_rounding(policy):
    _, logs, states = trained([KD(), IGA(weight=0.1)], policy, epochs=1)
    _, expected, _ = trained([KD(), IGA(weight=0.1)], epochs=1)
    name = "input_gradient_alignment"
    assert logs[name] == pytest.approx(expected[name], rel=0.1)
    assert all(np.isfinite(state).all() for state in states)


@pytest.mark.invariant(number=1)
@pytest.mark.graph
def test_one_step_is_one_forward_pass_per_model():
    x, y = tiny_models.data(8)
    large, small = tiny_models.teacher(), rich()
    d = Distiller(large, small, [KD(), IGA()])
    options = {"batch_size": 8, "verbose": 0}
    d.fit(x, y, **options)
    counts = [m.layers[0].counts for m in (large, small)]
    before = [c["calls"] for c in counts]
    # Compiled again: what Python runs is what a step consists of.
    d.make_train_function(force=True)
    d.fit(x, y, **options)
    assert [c["calls"] for c in counts] == [n + 1 for n in before]
    d.evaluate(x, y, **options)
    assert counts[0]["calls"] == before[0] + 1


@pytest.mark.invariant(number=1)
@pytest.mark.parametrize("estimator", ["exact", "finite_difference"])
def test_moving_statistics_are_updated_once_per_step(estimator):
    (x, y), (teacher, _) = networks.draw_data("dense", BATCH), pair()
    norm = keras.layers.BatchNormalization(momentum=0.9)
    parts = [keras.Input(x.shape[1:]), norm, keras.layers.Dense(3)]
    loss = IGA(estimator=estimator, squared=True)
    fitted(Distiller(teacher, keras.Sequential(parts), [KD(), loss]), x, y)
    # One move from 0 and from 1, by a tenth of the way.
    assert_close(array(norm.moving_mean), 0.1 * x.mean(0))
    assert_close(array(norm.moving_variance), 0.9 + 0.1 * x.var(0))


def test_a_student_can_be_trained_without_labels():
    teacher, student = pair()
    before = numbers(student)
    d = Distiller(teacher, student, [KD(), IGA(labels="teacher")])
    logs = fitted(d, networks.draw_data("dense", BATCH)[0])
    assert logs["input_gradient_alignment"] > 0
    assert not tiny_models.same(numbers(student), before)


def test_loss_is_evaluated_only_with_evaluate_teacher():
    (x, y), (teacher, student) = networks.draw_data("dense", BATCH), pair()
    d = Distiller(teacher, student, {"iga": IGA()})
    fitted(d, x, y)
    silent = d.evaluate(x, y, verbose=0, return_dict=True)
    assert "iga" not in silent
    d.evaluate_distillation = True
    logs = d.evaluate(x, y, verbose=0, return_dict=True)
    expected = oracle(difference(teacher, student, x, y))
    assert logs["iga"] == pytest.approx(expected, rel=1e-4)


def test_several_losses_share_one_gradient():
    (x, y), (teacher, student) = networks.draw_data("dense", BATCH), pair()
    losses = {"a": IGA(), "b": IGA(norm="batch"), "c": InputGradientPenalty()}
    d = Distiller(teacher, student, losses)
    found = d.compute_losses(tensor(x), tensor(y))
    gap = difference(teacher, student, x, y)
    own = networks.gradient("dense", weights_of(student), x, y)
    expected = [oracle(gap), oracle(gap, "batch"), oracle(own)]
    assert [float(array(v)) for v in found.values()] == pytest.approx(
        expected, rel=1e-4
    )


def test_the_teacher_may_be_an_ensemble():
    (x, y), (teacher, student) = networks.draw_data("dense", BATCH), pair()
    alone = value(teacher, student, IGA(), x, y)
    both = value([teacher, teacher], student, IGA(), x, y)
    assert both == pytest.approx(alone, rel=1e-4)


def tagger(seed):
    """A series to a label, `(batch, 3)`, and masked tags of its steps."""

    def dense(units, number, **options):
        start = keras.initializers.GlorotUniform(seed + number)
        return keras.layers.Dense(units, kernel_initializer=start, **options)

    inputs = keras.Input((4, 2))
    hidden = keras.layers.Masking()(inputs)
    tags = dense(2, 0, name="tags")(hidden)
    label = dense(3, 1, name="label")(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, {"label": label, "tags": tags})


@pytest.mark.invariant(number=3)
def test_masks_of_other_outputs_are_not_applied():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 4, 2)).astype("float32")
    x[:, 2:] = 0.0
    y = {"label": np.arange(8) % 3, "tags": rng.integers(0, 2, (8, 4))}
    runs = []
    for losses in ([KD()], [KD(), IGA(weight=0.0)]):
        small = tagger(5)
        d = Distiller(tagger(1), small, losses, output="label")
        d.compile(keras.optimizers.SGD(0.1), {"label": CE, "tags": CE})
        logs = d.fit(x, y, batch_size=8, verbose=0, shuffle=False).history
        runs.append((numbers(small), logs["task_loss"]))
    assert tiny_models.close(runs[0][0], runs[1][0], 1e-5)
    assert runs[0][1] == pytest.approx(runs[1][1], rel=1e-5)


class Features(KD):
    """Looks at an inner layer of each model as well."""

    def compute(self, step):
        (one,), (other,) = (
            step.student_features.values(),
            step.teacher_features.values(),
        )
        return ops.mean((one[:, :1] - other[:, :1]) ** 2, axis=-1)


def test_loss_combines_with_feature_losses_and_views():
    x, y = tiny_models.data(16)
    large, small = tiny_models.teacher(), rich()
    hint = Features()
    hint.student_layers = (small.layers[1].name,)
    hint.teacher_layers = (large.layers[1].name,)
    losses = {"hint": hint, "iga": IGA(), "noisy": KD(view="noise")}
    noise = keras.layers.GaussianNoise(0.1, seed=1)
    d = Distiller(large, small, losses, views={"noise": noise})
    logs = d.fit(x, y, epochs=2, verbose=0).history
    assert all(np.isfinite(logs[name]).all() and logs[name][0] > 0 for name in losses)


# Estimates.


@pytest.mark.parametrize("norm", ["per_sample", "batch"])
@pytest.mark.parametrize(
    "estimator, tolerance", [("jvp", 1e-4), ("finite_difference", 1e-2)]
)
def test_an_estimate_is_the_square_along_a_direction(
    estimator, tolerance, norm, monkeypatch
):
    (x, y), (teacher, student) = networks.draw_data("dense", BATCH), pair()
    v = np.random.default_rng(0).normal(size=x.shape)
    loss = IGA(norm=norm, squared=True, estimator=estimator)
    d = Distiller(teacher, student, {"iga": loss})
    monkeypatch.setattr(input_gradients, "sample_direction", lambda x, seed: tensor(v))
    found = float(array(d.compute_losses(tensor(x), tensor(y))["iga"]))
    along = [
        networks.along("dense", weights_of(m), x, y, v) for m in (student, teacher)
    ]
    expected = oracle(along[0] - along[1], norm, squared=True)
    assert found == pytest.approx(expected, rel=tolerance)


def test_finite_differences_use_the_same_dropout_in_each_pass(monkeypatch):
    (x, y), (teacher, _) = networks.draw_data("dense", BATCH), pair()
    v = np.random.default_rng(0).normal(size=x.shape)
    monkeypatch.setattr(input_gradients, "sample_direction", lambda x, seed: tensor(v))

    def found(estimator):
        keras.utils.set_random_seed(3)
        start = keras.initializers.GlorotUniform
        layers = [
            keras.layers.Dense(16, "tanh", kernel_initializer=start(1)),
            # Without a seed it draws from torch's own generator.
            keras.layers.Dropout(0.5),
            keras.layers.Dense(3, kernel_initializer=start(2)),
        ]
        student = keras.Sequential([keras.Input(x.shape[1:]), *layers])
        loss = IGA(squared=True, estimator=estimator)
        d = Distiller(teacher, student, {"iga": loss})
        return fitted(d, x, y, jit_compile=False)["iga"]

    assert found("finite_difference") == pytest.approx(found("jvp"), rel=1e-2)


@pytest.mark.parametrize("estimator", ["jvp", "finite_difference"])
@pytest.mark.graph
def test_directions_differ_from_step_to_step_and_come_from_the_seed(estimator):
    x, y = networks.draw_data("dense", BATCH)

    def run(epochs):
        keras.utils.set_random_seed(3)
        teacher, student = pair()
        loss = IGA(squared=True, estimator=estimator)
        d = Distiller(teacher, student, {"iga": loss})
        # XLA takes minutes for TensorFlow's forward mode.
        d.compile(keras.optimizers.SGD(0.0), CE, jit_compile=False)
        options = {"batch_size": BATCH, "shuffle": False, "verbose": 0}
        return d.fit(x, y, epochs=epochs, **options).history["iga"]

    first = run(3)
    assert len(set(first)) == 3 and min(first) > 0
    assert run(3) == first


@pytest.mark.invariant(number=8)
def test_random_directions_continue_after_loading(tmp_path):
    x, y = tiny_models.data(16)
    large = tiny_models.teacher()
    loss = IGA(squared=True, estimator="finite_difference")
    d = Distiller(large, tiny_models.student(), loss)
    options = {"batch_size": 8, "shuffle": False, "verbose": 0}
    d.fit(x, y, **options)
    d.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    loaded.teacher = large
    for one in (d, loaded):
        one.fit(x, y, **options)
    assert tiny_models.same(d.student, loaded.student)


@pytest.mark.single_backend
def test_diagnose_measures_the_loss():
    report = diagnose(
        tiny_models.teacher(),
        tiny_models.student(),
        tiny_models.data(),
        [KD(), IGA()],
        verbose=0,
    )
    assert report["losses"]["input_gradient_alignment"]["value"] > 0
    # It pulls, though not at the logits.
    assert "gradient_norm" not in report["losses"]["input_gradient_alignment"]
    issues = [i for i in report.issues if "input_gradient_alignment" in i.message]
    assert [(i.code, i.severity) for i in issues] == [("not_measured", "info")]
    assert "through the student's weights, not through its logits" in issues[0].message
    (row,) = [r for r in str(report).splitlines() if r.startswith("input_gradient")]
    assert row.endswith("–           –") and " 0 " not in row
