"""Losses on features of real models: nested, subclassed, of unlike width and size."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import Distiller, Step, features, losses
from keras_dtkd.training import feature_capture
from tests.tensors import numpy
from tests.tiny_models import Counting, close, everything, numbers, same

SIDE, CLASSES = 16, 3
RNG = np.random.default_rng(0)
X = RNG.uniform(size=(8, SIDE, SIDE, 3)).astype("float32")
Y = RNG.integers(0, CLASSES, 8)
OPTIONS = {"batch_size": 4, "shuffle": False, "verbose": 0}


def functional(width, seed, stride=2):
    """A nested backbone, and how often it is called."""
    keras.utils.set_random_seed(seed)
    counting = Counting()
    convolution = {"padding": "same", "use_bias": False}
    backbone = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            counting,
            keras.layers.Conv2D(width, 3, stride, name="stem", **convolution),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.ReLU(name="stage1"),
            keras.layers.Conv2D(2 * width, 3, 2, name="stage2", **convolution),
        ],
        name="backbone",
    )
    inputs = keras.Input((SIDE, SIDE, 3))
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(backbone(inputs))
    outputs = keras.layers.Dense(CLASSES, name="top")(pooled)
    return keras.Model(inputs, outputs), counting


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    """Two blocks of the same layer names, one of which is called twice."""

    def __init__(self, width=4, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.blocks = {n: self._block(n) for n in ("first", "second")}
        self.flat = keras.layers.GlobalAveragePooling2D()
        self.top = keras.layers.Dense(CLASSES, name="top")

    def _block(self, name):
        layers = [keras.layers.Conv2D(self.width, 3, 2, "same", name="conv")]
        return keras.Sequential(layers, name=name)

    def call(self, inputs):
        x = self.blocks["second"](self.blocks["first"](inputs))
        return self.top(self.flat(x))


def subclassed(width, seed):
    keras.utils.set_random_seed(seed)
    model = Subclassed(width)
    model(X[:1])
    return model


def fit(distiller, epochs=1, start=0):
    options = {**OPTIONS, "initial_epoch": start, "epochs": start + epochs}
    return distiller.fit(X, Y, **options).history


@pytest.mark.invariant(number=1)
def test_features_come_from_one_pass_and_statistics_move_once():
    (teacher, count), (student, own) = functional(8, 0), functional(4, 1)
    plain, _ = functional(4, 1)
    before = everything(teacher)
    loss = losses.FitNet(["stage1", ("backbone/stage2", "stage2")], weight=0.0)
    d = Distiller(teacher, student, loss)
    task = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    d.compile(keras.optimizers.SGD(0.1), task, run_eagerly=True)
    fit(d)
    calls = count.counts["calls"], own.counts["calls"]
    fit(d, 1, 1)
    assert (count.counts["calls"], own.counts["calls"]) == (calls[0] + 2, calls[1] + 2)
    plain.compile(keras.optimizers.SGD(0.1), task)
    plain.fit(X, Y, **{**OPTIONS, "epochs": 2})
    for one, two in zip(numbers(student), numbers(plain), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)
    after = everything(teacher)
    assert after["variables"] == before["variables"]


@pytest.mark.invariant(number=8)
@pytest.mark.parametrize("build", [lambda *a: functional(*a)[0], subclassed])
def test_a_projector_is_trained_saved_and_goes_on_and_the_student_lacks_it(
    build, tmp_path
):
    names = ["first", "second/conv"] if build is subclassed else ["stage1", "stage2"]
    teacher, student = build(8, 0), build(4, 1)
    count = len(student.variables)
    loss = losses.FitNet(names)
    d = Distiller(teacher, student, [loss, losses.AttentionTransfer(names)])
    d.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    first = fit(d)
    assert [tuple(p.kernel.shape) for p in loss.projectors][0] == (4, 8)
    started = numbers(loss)
    assert fit(d, 3, 1)["fit_net"][-1] < first["fit_net"][0]
    assert not close(started, loss)
    assert len(student.variables) == count
    d.save(tmp_path / "d.keras")
    loaded = keras.saving.load_model(tmp_path / "d.keras")
    loaded.teacher = teacher
    fit(d, 1, 4)
    fit(loaded, 1, 4)
    assert same(loaded, d)
    student.save(tmp_path / "s.keras")
    assert len(keras.saving.load_model(tmp_path / "s.keras").variables) == count


@pytest.mark.single_backend
def test_a_layer_as_projector_is_copied_saved_and_loaded(tmp_path):
    projector = keras.layers.Conv2D(8, 3, padding="same")
    loss = losses.FitNet(["stage1", ("stage1", "stage1")], projector)
    d = Distiller(functional(8, 0)[0], functional(4, 1)[0], loss)
    fit(d)
    assert len(loss.trainable_variables) == 4 and not projector.built
    d.save(tmp_path / "d.keras")
    loaded = keras.saving.load_model(tmp_path / "d.keras")
    loaded.teacher = d.teacher
    fit(d, 1, 1)
    fit(loaded, 1, 1)
    assert same(loaded, d)


def step(student, teacher, **kwargs):
    """A step of these features, both named "f"."""
    features = {"student_features": {"f": ops.convert_to_tensor(student)}}
    features["teacher_features"] = {"f": ops.convert_to_tensor(teacher)}
    logits = kwargs.pop("logits", ops.zeros((len(student), CLASSES)))
    return Step(**features, student_logits=logits, **kwargs)


def compute(loss, *args, **kwargs):
    """The mean over the batch, by a loss that is built for it."""
    made = step(*args, **kwargs)
    loss.build_from_step(made)
    values = loss.compute(made)
    return numpy(loss.reduce(values, made.student_logits, made.sample_weight))


def test_a_projection_and_a_smaller_map_are_the_formula():
    student = RNG.normal(size=(2, 4, 4, 3)).astype("float32")
    teacher = RNG.normal(size=(2, 2, 2, 5)).astype("float32")
    loss = losses.FitNet(["f"])
    found = compute(loss, student, teacher)
    kernel, bias = map(numpy, loss.projectors[0].weights)
    projected = (student @ kernel + bias).reshape(2, 2, 2, 2, 2, 5).mean((2, 4))
    assert found == pytest.approx(((projected - teacher) ** 2).mean(), rel=1e-5)


@pytest.mark.single_backend
def test_values_are_float32_under_any_dtype_policy():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        loss = losses.FitNet(["f"])
        found = compute(loss, np.full((2, 3), 1e5, "float32"), np.zeros((2, 3)))
    finally:
        keras.config.set_dtype_policy("float32")
    assert found == pytest.approx(1e10, rel=1e-5)


@pytest.mark.single_backend
@pytest.mark.invariant(number=3)
@pytest.mark.parametrize("weights", [None, "positions", (2,), (2, 1)])
@pytest.mark.parametrize(
    "build", [losses.HiddenStates, losses.FitNet, losses.AttentionTransfer]
)
def test_padding_counts_nowhere_beside_outputs_of_sequences(build, weights):
    student, teacher = RNG.normal(size=(2, 2, 3, 4)).astype("float32")
    mask = np.array([[1, 1, 0], [1, 0, 0]], "int32")
    if weights == "positions":
        weights = ops.convert_to_tensor(mask, "float32")
    elif weights is not None:
        weights = ops.ones(weights)
    options = {"sample_weight": weights, "x": {"padding_mask": mask}}
    options["logits"] = ops.zeros((2, 3, 7))
    found = compute(build(["f"]), student, teacher, **options)
    other = np.where(mask[..., None] == 1, student, 9.0).astype("float32")
    assert compute(build(["f"]), other, teacher, **options) == pytest.approx(found)
    if build is not losses.AttentionTransfer:
        expected = ((student - teacher) ** 2).mean(-1)[mask == 1].mean()
        assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.single_backend
@pytest.mark.parametrize(
    "build",
    [losses.AttentionTransfer, losses.HiddenStates, losses.SimilarityPreserving]
    + [losses.RKD, losses.ContrastiveFeature],
)
def test_padding_to_twice_the_length_changes_nothing(build):
    student, teacher = RNG.normal(size=(2, 4, 3, 5)).astype("float32")
    mask = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 1, 1]], "int32")
    found = []
    for extra in (0, 3):
        padded = [
            np.pad(a, ((0, 0), (0, extra), (0, 0)), constant_values=3.0)
            for a in (student, teacher)
        ]
        x = {"padding_mask": np.pad(mask, ((0, 0), (0, extra)))}
        found.append(compute(build(["f"]), *padded, x=x))
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@pytest.mark.single_backend
def test_a_sequence_and_what_is_pooled_of_it_have_each_their_mask():
    student = RNG.normal(size=(4, 3, 5)).astype("float32")
    teacher = RNG.normal(size=(4, 3)).astype("float32")
    mask = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 1, 0]], "int32")
    other = np.where(mask[..., None] == 1, student, 9.0).astype("float32")
    for build in (losses.SimilarityPreserving, losses.RKD):
        found = [
            compute(build(["f"]), each, teacher, x={"padding_mask": mask})
            for each in (student, other)
        ]
        assert found[0] == pytest.approx(found[1]) and found[0] > 0


def test_maps_of_unlike_size_are_resized():
    teacher, student = functional(8, 0)[0], functional(4, 1, stride=1)[0]
    both = [losses.FitNet(["stage1"]), losses.AttentionTransfer(["stage1"])]
    both += [losses.SimilarityPreserving(["stage2"]), losses.RKD(["pool"])]
    d = Distiller(teacher, student, both)
    logs = fit(d)
    for loss in both:
        assert logs[loss.name][0] > 0, loss.name
    # And the other way round, to a larger one.
    logs = fit(Distiller(student, teacher, losses.FitNet(["stage1"])))
    assert logs["fit_net"][0] > 0


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
@pytest.mark.parametrize(
    ("loss", "match"),
    [
        (losses.FitNet(["stage9"]), "no layer 'stage9'"),
        (losses.FitNet(["stage1"], projector=None), "4 and 8 channels"),
        (losses.FitNet([("stage1", "pool")]), "cannot be compared"),
        (losses.FitNet(["stage1:scores"]), "no attention scores"),
        (losses.FitNet(["stage1#2"]), "is called 1 times"),
        (losses.AttentionTransfer(["pool"]), "no maps"),
        (losses.AttentionMaps(["stage1"]), "`:scores` or `:weights`"),
        (losses.FitNet(["stage1"], keras.layers.Dense(5)), "gives 5 channels"),
    ],
)
def test_features_that_do_not_fit_are_one_error_before_the_first_step(loss, match):
    d = Distiller(functional(8, 0)[0], functional(4, 1)[0], loss)
    before = numbers(d.student)
    with pytest.raises(ValueError, match=match):
        fit(d)
    assert close(before, d.student)


@pytest.mark.single_backend
@pytest.mark.parametrize(
    "names", [[], None, [("a", "b", "c")], [3], [("a", "")], ("a", "b")]
)
def test_features_are_pairs_of_names(names):
    with pytest.raises((TypeError, ValueError), match="`FitNet`"):
        losses.FitNet(names)


@pytest.mark.parametrize("build", [losses.FitNet, losses.ContrastiveFeature])
def test_a_projector_is_in_training_mode_in_training_alone(build):
    norm = keras.layers.BatchNormalization()
    projector = keras.Sequential([keras.layers.Dense(16), norm])
    d = Distiller(functional(8, 0)[0], functional(4, 1)[0], build("pool", projector))
    logs = fit(d)
    (made,) = d.distillation_losses[0].projectors
    mean = ops.convert_to_numpy(made.layers[-1].moving_mean)
    assert np.abs(mean).max() > 0 and np.isfinite(logs[d.distillation_losses[0].name])
    d.compute_losses(ops.convert_to_tensor(X), Y)
    assert np.array_equal(mean, ops.convert_to_numpy(made.layers[-1].moving_mean))


@pytest.mark.single_backend
@pytest.mark.parametrize("formats", [["channels_last"], ["channels_last", "NHWC"]])
def test_data_formats_are_two_known_ones(formats):
    with pytest.raises(ValueError, match="`FitNet`: `data_formats` must be two of"):
        losses.FitNet(["stage1"], data_formats=formats)


@pytest.mark.single_backend
def test_the_list_of_features_has_names_that_capture_finds(capsys):
    model, _ = functional(4, 0)
    found = features(model, X)
    assert found["stage1"] == (8, 8, 4)
    assert found["pool"] == (8,)
    assert "stage1" in capsys.readouterr().out
    found = features(subclassed(4, 0), X, verbose=0)
    assert found["first"] == (8, 8, 4)
    assert found["second/conv"] == (4, 4, 4)
    # One name each, of the layers that are called.
    assert len(found) == 6


def attention(heads, width, seed):
    """One layer of attention on itself, called twice."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((5, 4))
    layer = keras.layers.MultiHeadAttention(heads, width, name="attention")
    x = layer(inputs, inputs)
    x = layer(x, inputs)
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, keras.layers.Dense(CLASSES)(x))


@keras.saving.register_keras_serializable("tests")
class Tuple(keras.layers.Layer):
    """Attention of one's own, which returns its weights always."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.softmax = keras.layers.Softmax()

    def call(self, inputs, return_attention_scores=False):
        weights = self.softmax(inputs @ ops.transpose(inputs, (0, 2, 1)))
        return weights @ inputs, weights


@pytest.mark.single_backend
def test_recording_attention_changes_no_outputs():
    class Uses(keras.Model):
        def __init__(self):
            super().__init__()
            self.attention, self.own = Tuple(name="own"), keras.layers.LSTM(2)

        def call(self, inputs):
            return self.own(self.attention(inputs)[0])

    x = RNG.normal(size=(4, 5, 4)).astype("float32")
    for model in (Uses(), attention(2, 3, 0)):
        expected = numpy(model(x))
        found = features(model, x, verbose=0)
        # No cells, of which a loop makes no one feature.
        assert not any("cell" in name for name in found)
        names = [name for name in found if name.endswith(":weights")]
        assert names
        with feature_capture.capture(model, names) as captured:
            np.testing.assert_allclose(numpy(model(x)), expected, rtol=1e-5)
        assert all(tuple(v[0].shape)[-2:] == (5, 5) for v in captured.values())


def test_attention_is_recorded_before_and_after_its_softmax():
    x = RNG.normal(size=(4, 5, 4)).astype("float32")
    found = features(attention(2, 3, 0), x, verbose=0)
    assert found["attention#1:scores"] == found["attention#0:weights"] == (2, 5, 5)
    for part in ("scores", "weights"):
        names = [f"attention#{call}:{part}" for call in (0, 1)]
        loss = losses.AttentionMaps(names)
        d = Distiller(attention(2, 3, 0), attention(1, 3, 1), loss)
        logs = d.fit(x, Y[:4], batch_size=4, epochs=2, verbose=0).history
        assert logs["attention_maps"][0] > 0
        equal = Distiller(
            attention(2, 3, 0),
            attention(2, 3, 0),
            losses.AttentionMaps(names),
            task_weight=0.0,
        )
        logs = equal.fit(x, batch_size=4, verbose=0).history
        assert logs["attention_maps"] == pytest.approx([0.0], abs=1e-10)


def bert(num_layers, width, seed):
    """A KerasHub classifier with random weights."""
    hub = pytest.importorskip("keras_hub", reason="KerasHub is not installed.")
    keras.utils.set_random_seed(seed)
    backbone = hub.models.BertBackbone(
        vocabulary_size=20,
        num_layers=num_layers,
        num_heads=2,
        hidden_dim=width,
        intermediate_dim=width,
        dropout=0.0,
        max_sequence_length=6,
    )
    return hub.models.BertTextClassifier(backbone, num_classes=CLASSES, dropout=0.0)


def tinybert():
    """A Distiller with TinyBERT's losses, its inputs, and its losses by name."""
    rng = np.random.default_rng(0)
    mask = (np.arange(6) < [[6], [3], [4], [2]]).astype("int32")
    ids = rng.integers(1, 20, (4, 6)) * mask
    x = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": mask}
    pairs = [("transformer_layer_0", "transformer_layer_1")]
    pairs += [("transformer_layer_1", "transformer_layer_3")]
    hidden = losses.HiddenStates([("embeddings_dropout",) * 2, *pairs])
    scores = losses.AttentionMaps([tuple(f"{n}:scores" for n in p) for p in pairs])
    d = Distiller(bert(4, 8, 0), bert(2, 4, 1), [hidden, scores], task_weight=0.0)
    d.compile(keras.optimizers.Adam(0.01))
    return d, x


BATCH = {"batch_size": 4, "shuffle": False, "verbose": 0}


def test_tinybert_on_kerashub():
    d, x = tinybert()
    logs = d.fit(x, epochs=3, **BATCH).history
    for name in ("hidden_states", "attention_maps"):
        assert logs[name][-1] < logs[name][0]
    # One projection for all pairs of unlike width.
    hidden = d.distillation_losses["hidden_states"]
    assert len({id(projector) for projector in hidden.projectors}) == 1
    assert len(hidden.trainable_variables) == 2


@pytest.mark.single_backend
def test_tinybert_goes_on_after_loading_and_padding_counts_nowhere(tmp_path):
    d, x = tinybert()
    d.fit(x, **BATCH)
    expected = d.compute_losses(x)
    x["token_ids"][x["padding_mask"] == 0] = 7
    for name, value in d.compute_losses(x).items():
        assert float(value) == pytest.approx(float(expected[name]), rel=1e-5)
    d.save(tmp_path / "d.keras")
    loaded = keras.saving.load_model(tmp_path / "d.keras")
    loaded.teacher = d.teacher
    for each in (d, loaded):
        each.fit(x, initial_epoch=1, epochs=2, **BATCH)
    assert same(loaded, d)


@pytest.mark.single_backend
def test_two_widths_of_mobilenet_in_five_lines():
    options = {"input_shape": (32, 32, 3), "classes": CLASSES, "weights": None}
    teacher = keras.applications.MobileNetV2(alpha=1.0, **options)
    student = keras.applications.MobileNetV2(alpha=0.35, **options)
    hints = losses.FitNet(["block_13_expand_relu"])
    d = Distiller(teacher, student, hints)
    x = np.random.default_rng(0).uniform(-1, 1, (4, 32, 32, 3)).astype("float32")
    logs = d.fit(x, Y[:4], batch_size=4, epochs=2, verbose=0).history
    assert logs["fit_net"][0] > 0
    shape = tuple(hints.projectors[0].kernel.shape)
    assert shape == (features(student, x, 0)["block_13_expand_relu"][-1], 576)
