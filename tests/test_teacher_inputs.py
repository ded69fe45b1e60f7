"""A teacher that takes other inputs than its student: by a function or a column."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import Distiller, diagnose, losses, teachers, views
from keras_dtkd.datasets import with_columns
from keras_dtkd.losses import KD, InputGradientPenalty
from tests.selection import JIT_COMPILE
from tests.tiny_models import Counting, close, numbers, same

RNG = np.random.default_rng(0)
X = RNG.uniform(size=(8, 8, 8, 3)).astype("float32")
Y = RNG.integers(0, 3, 8)
OPTIONS = {"batch_size": 4, "shuffle": False, "verbose": 0}
IDS = RNG.integers(1, 9, (8, 5))
MASK = np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]] * 4)
TOKENS = {"token_ids": IDS % 7, "padding_mask": MASK}


def image_model(side, width, seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((side, side, 3)),
            keras.layers.Conv2D(width, 3, 2, "same", name="stage"),
            keras.layers.ReLU(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3),
        ]
    )


def text_model(vocabulary, width, seed, with_mask=True):
    keras.utils.set_random_seed(seed)
    ids = keras.Input((None,), dtype="int32", name="token_ids")
    mask = keras.Input((None,), dtype="int32", name="padding_mask")
    hidden = keras.layers.Embedding(vocabulary, width, name="hidden")(ids)
    weights = keras.layers.Rescaling(1.0)(mask)[..., None]
    pooled = keras.layers.GlobalAveragePooling1D()(hidden * weights)
    outputs = keras.layers.Dense(3)(pooled)
    return keras.Model({"token_ids": ids, "padding_mask": mask}, outputs)


def normalize():
    """Keras layers with weights, from the student's images to the teacher's."""
    normalization = keras.layers.Normalization()
    normalization.adapt(X)
    resizing = keras.layers.Resizing(12, 12)
    return keras.Sequential([resizing, normalization], name="teacher_inputs")


@keras.saving.register_keras_serializable("tests")
def enlarge(x):
    return ops.repeat(ops.repeat(2.0 * x - 1.0, 2, axis=1), 2, axis=2)


def distiller(teacher_inputs, losses=None, side=16, **options):
    options = {"teacher_inputs": teacher_inputs, "task_weight": 0.5, **options}
    large = image_model(side, 6, 0)
    d = Distiller(large, image_model(8, 4, 1), losses or KD(2.0), **options)
    task = keras.losses.SparseCategoricalCrossentropy(True)
    d.compile(keras.optimizers.SGD(0.1), task, jit_compile=JIT_COMPILE)
    return d


def reference(teacher_x, x=X, build=image_model):
    """A student that was trained from the stored outputs for these inputs."""
    large = image_model(teacher_x.shape[1], 6, 0)
    stored = teachers.Stored(large.predict(teacher_x, verbose=0))
    d = Distiller(stored, image_model(8, 4, 1), KD(2.0), task_weight=0.5)
    d.compile(
        keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(True)
    )
    logs = d.fit(x, Y, epochs=2, **OPTIONS).history
    return d, logs


SOURCES = {"layer": (normalize, 12), "function": (lambda: enlarge, 16)}


@pytest.mark.invariant(number=1)
@pytest.mark.parametrize("kind", [*SOURCES, "column"])
def test_the_teacher_gets_its_inputs_and_the_student_the_data(kind):
    make, side = SOURCES.get(kind, (lambda: "large", 16))
    source, x = make(), X
    if kind == "column":
        x = with_columns(X, large=np.array(enlarge(X)))
    teacher_x = ops.convert_to_numpy((enlarge if kind == "column" else source)(X))
    expected, expected_logs = reference(teacher_x)
    d = distiller(source, side=side, evaluate_distillation=True)
    logs = d.fit(x, Y, epochs=2, validation_data=(x, Y), **OPTIONS).history
    assert close(d.student, expected.student, 1e-5)
    assert logs["kd"] == pytest.approx(expected_logs["kd"], rel=1e-4)
    kd = d.compute_losses(ops.convert_to_tensor(X) if kind != "column" else x)["kd"]
    kd = float(ops.convert_to_numpy(kd))
    found = d.evaluate(x, Y, verbose=0, return_dict=True)["kd"]
    assert found == pytest.approx(kd, rel=1e-4)
    assert logs["val_kd"][-1] == pytest.approx(kd, rel=1e-4)


@pytest.mark.invariant(number=8)
@pytest.mark.parametrize("kind", [*SOURCES, "column"])
def test_a_loaded_one_continues_bit_for_bit(kind, tmp_path):
    make, side = SOURCES.get(kind, (lambda: "large", 16))
    x = with_columns(X, large=np.array(enlarge(X))) if kind == "column" else X
    d = distiller(make(), side=side)
    d.fit(x, Y, **OPTIONS)
    d.save(tmp_path / "d.keras")
    loaded = keras.saving.load_model(tmp_path / "d.keras")
    loaded.teacher = d.teacher
    for model in (d, loaded):
        model.fit(x, Y, initial_epoch=1, epochs=2, **OPTIONS)
    assert same(d, loaded)
    assert type(loaded.teacher_inputs) is type(d.teacher_inputs)
    weights = [v for v in d.variables if "normalization" in v.path]
    assert bool(weights) == (kind == "layer")


def test_another_tokenizer_is_a_column_with_its_own_padding():
    """Hidden states of the same length, whose padding differs."""
    mask = MASK[:, ::-1]
    own = {"token_ids": IDS, "padding_mask": mask}
    # The first position of the teacher is padding.
    x = with_columns(TOKENS, tokens=own)
    large, small = text_model(9, 6, 0), text_model(7, 4, 1)
    hints = losses.SimilarityPreserving("hidden")
    d = Distiller(large, small, [KD(), hints], teacher_inputs="tokens")
    d.compile(keras.optimizers.SGD(0.1), jit_compile=JIT_COMPILE)
    kd, found = d.compute_losses(x).values()

    def run(model, x):
        return keras.Model(
            model.inputs, [model.outputs[0], model.get_layer("hidden").output]
        )(x)

    def similarity(hidden, mask):
        flat = (ops.convert_to_numpy(hidden) * mask[..., None]).reshape(8, -1)
        gram = flat.astype("float64") @ flat.T
        return gram / np.linalg.norm(gram, axis=1, keepdims=True)

    (student, student_hidden), (teacher, teacher_hidden) = (
        run(small, TOKENS),
        run(large, own),
    )
    expected = KD().reduce(KD()(student, teacher))
    grams = similarity(student_hidden, MASK), similarity(teacher_hidden, mask)
    assert float(ops.convert_to_numpy(kd)) == pytest.approx(
        float(ops.convert_to_numpy(expected)), rel=1e-5
    )
    assert float(ops.convert_to_numpy(found)) == pytest.approx(
        ((grams[0] - grams[1]) ** 2).sum() / 64, rel=1e-4
    )
    assert np.isfinite(d.fit(x, **OPTIONS).history["loss"]).all()


def test_a_view_is_shown_to_the_teacher_through_the_function():
    flip = views.View(keras.layers.RandomFlip(seed=0), name="flip")
    d = distiller(enlarge, {"flip": KD(2.0, view="flip")}, views=flip)
    assert np.isfinite(d.fit(X, Y, **OPTIONS).history["flip"]).all()
    with pytest.raises(ValueError, match="view 'flip', from which the column 'large'"):
        d = distiller("large", KD(2.0, view="flip"), views=flip)
        d.fit(with_columns(X, large=np.array(enlarge(X))), Y, **OPTIONS)


def test_the_input_gradient_goes_through_the_function():
    """That of the teacher with respect to the student's inputs: the chain rule."""
    seen = []

    class Record(losses.InputGradientAlignment):
        def compute(self, step):
            seen.append(step.teacher_input_gradient)
            return super().compute(step)

    d = distiller(enlarge, Record())
    d.compute_losses(ops.convert_to_tensor(X), ops.convert_to_tensor(Y))
    found = ops.convert_to_numpy(seen[-1])
    large = image_model(16, 6, 0)
    plain = Distiller(large, image_model(16, 4, 1), Record())
    plain.compute_losses(ops.convert_to_tensor(enlarge(X)), ops.convert_to_tensor(Y))
    own = ops.convert_to_numpy(seen[-1]).reshape(8, 8, 2, 8, 2, 3)
    np.testing.assert_allclose(found, 2 * own.sum((2, 4)), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="gradient with respect to the student's"):
        x = with_columns(X, large=np.array(enlarge(X)))
        distiller("large", losses.InputGradientAlignment()).fit(x, Y, **OPTIONS)


@pytest.mark.invariant(number=9)
def test_an_ensemble_and_features_take_the_same_inputs():
    members = [image_model(16, 6, 0), image_model(16, 6, 5)]
    student = image_model(8, 4, 1)
    d = Distiller(members, student, KD(2.0), teacher_inputs=enlarge)
    found = float(
        ops.convert_to_numpy(d.compute_losses(ops.convert_to_tensor(X))["kd"])
    )
    logits = sum(m(enlarge(X)) for m in members) / 2
    expected = KD(2.0).reduce(KD(2.0)(student(X), logits))
    assert found == pytest.approx(float(ops.convert_to_numpy(expected)), rel=1e-5)
    d = distiller(enlarge, losses.FitNet("stage"))
    before = numbers(d.teacher)
    assert np.isfinite(d.fit(X, Y, **OPTIONS).history["fit_net"]).all()
    assert same(before, numbers(d.teacher))


@pytest.mark.single_backend
def test_an_unbuilt_teacher_is_built_from_its_own_inputs():
    large = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)])
    Distiller(large, image_model(8, 4, 1), teacher_inputs=enlarge).fit(X, Y, **OPTIONS)
    assert (
        large.input_shape == (None, 16, 16, 3) or large.layers[1].kernel.shape[0] == 768
    )


@pytest.mark.single_backend
def test_diagnose_runs_the_teacher_on_its_inputs():
    large, small = image_model(16, 6, 0), image_model(8, 4, 1)
    report = diagnose(large, small, (X, Y), teacher_inputs=enlarge, verbose=False)
    assert (
        report["inputs"]["teacher"]["min"] < -0.5 < report["inputs"]["student"]["min"]
    )
    report = diagnose(large, small, (X, Y), verbose=False)
    assert any("teacher_inputs" in issue.message for issue in report.issues)


@pytest.mark.single_backend
@pytest.mark.single_backend
def test_stored_outputs_for_other_teacher_inputs_are_refused(tmp_path):
    large = image_model(16, 4, 0)

    def call(source, folder="a", **columns):
        x = with_columns(X, **columns) if columns else X
        options = {"teacher_inputs": source, "verbose": 0}
        return teachers.store(large, x, tmp_path / folder, **options)

    resize = keras.layers.Resizing(16, 16)
    call(keras.Sequential([resize, keras.layers.Rescaling(2.0)]))
    call(lambda x: 2.0 * resize(x))
    for other in (keras.layers.Rescaling(100.0), keras.layers.Rescaling(-2.0)):
        with pytest.raises(ValueError, match="other teacher_inputs"):
            call(keras.Sequential([resize, other]))
    column = ops.convert_to_numpy(resize(X))
    call("large", "b", large=column, larger=2 * column)
    with pytest.raises(ValueError, match="other teacher_inputs"):
        call("larger", "b", large=column, larger=2 * column)


def test_outputs_are_stored_for_what_the_student_takes(tmp_path):
    large = image_model(16, 6, 0)
    stored = teachers.store(large, X, tmp_path, teacher_inputs=enlarge, verbose=0)
    d = Distiller(stored, image_model(8, 4, 1), KD(2.0))
    other = distiller(enlarge)
    x = teachers.with_sample_ids(X)
    found = [m.compute_losses(a)["kd"] for m, a in ((d, x), (other, X))]
    assert float(found[0]) == pytest.approx(float(found[1]), rel=1e-5)


def fail(x):
    raise RuntimeError("no such thing")


def dense():
    layer = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(4)])
    layer.build((None, 8, 8, 3))
    return layer


WRONG = {
    "an unknown column": ("larg", "no column 'larg'.*There are: 'large'"),
    "a failing function": (fail, "`teacher_inputs` failed on a batch.*no such thing"),
    "other shapes": (lambda x: x[:, :4], "teacher cannot take the inputs"),
    "trainable weights": (dense, "trainable weights"),
    "no inputs": (3, "must be a function or Keras layer.*3"),
    "a class": (keras.layers.Resizing, "That is the class"),
}


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
@pytest.mark.parametrize("kind", WRONG)
def test_wrong_ones_are_named_before_the_first_step(kind):
    source, message = WRONG[kind]
    source = dense() if source is dense else source
    x = with_columns(X, large=np.array(enlarge(X)))
    with pytest.raises((TypeError, ValueError), match=message):
        distiller(source).fit(x, Y, **OPTIONS)


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
def test_a_validation_set_without_the_column_is_named():
    x = with_columns(X, large=np.array(enlarge(X)))
    d = distiller("large", evaluate_distillation=True)
    with pytest.raises(ValueError, match="no column 'large'.*There are: none"):
        d.fit(x, Y, validation_data=(X, Y), **OPTIONS)
    # Without the teacher it needs none.
    d = distiller("large")
    assert "val_loss" in d.fit(x, Y, validation_data=(X, Y), **OPTIONS).history


@pytest.mark.single_backend
def test_a_column_goes_with_a_loss_on_the_students_input_gradient():
    losses = [KD(), InputGradientPenalty()]
    x = with_columns(X, large=np.array(enlarge(X)))
    logs = distiller("large", losses).fit(x, Y, **OPTIONS).history
    assert logs["kd"][0] > 0 and logs["input_gradient_penalty"][0] > 0


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
def test_stored_outputs_take_no_inputs():
    stored = teachers.Stored(np.zeros((8, 3), "float32"))
    d = Distiller(stored, image_model(8, 4, 1), teacher_inputs=enlarge)
    with pytest.raises(ValueError, match="outputs are stored, and take no inputs"):
        d.fit(X, Y, **OPTIONS)
    with pytest.raises(ValueError, match="cannot be exchanged"):
        d.teacher_inputs = None


@pytest.mark.invariant(number=1)
@pytest.mark.single_backend
def test_the_function_runs_once_a_step():
    count = Counting()
    d = distiller(count, side=8)
    d.fit(X, Y, **OPTIONS)
    before = count.counts["calls"]
    d.fit(X, Y, **OPTIONS)
    assert count.counts["calls"] == before + 2


def unregistered(x):
    return 2.0 * x


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
def test_a_function_that_is_not_registered_is_named_when_loading(tmp_path):
    distiller(unregistered, side=8).save(tmp_path / "d.keras")
    with pytest.raises(TypeError, match="`teacher_inputs` in this file needs the func"):
        keras.saving.load_model(tmp_path / "d.keras")
    options = {"custom_objects": {"unregistered": unregistered}}
    loaded = keras.saving.load_model(tmp_path / "d.keras", **options)
    assert loaded.teacher_inputs is unregistered
