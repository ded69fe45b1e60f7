"""Losses on another look at the batch."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import Distiller, diagnose
from keras_dtkd.losses import KD, DistillationLoss
from keras_dtkd.teachers import Stored
from keras_dtkd.views import CutMix, Cutout, Mixup, View
from tests.tiny_models import Counting, close, numbers, same

SHAPE, CLASSES = (8, 8, 1), 3
RNG = np.random.default_rng(0)
X = RNG.uniform(0.5, 1.0, size=(16, *SHAPE)).astype("float32")
Y = RNG.integers(CLASSES, size=16)
VIEWS = [Mixup, CutMix, Cutout]


def network(seed, norm=False):
    counting = Counting()
    layers = [keras.Input(SHAPE), counting, keras.layers.Flatten()]
    if norm:
        layers.append(keras.layers.BatchNormalization())
    start = keras.initializers.GlorotUniform(seed)
    layers.append(keras.layers.Dense(CLASSES, kernel_initializer=start))
    return keras.Sequential(layers), counting


def distiller(losses, views, seed=1, rate=0.1, **kwargs):
    d = Distiller(network(9)[0], network(seed)[0], losses, views=views, **kwargs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    d.compile(keras.optimizers.SGD(rate), loss)
    return d


def seen(view, x=X):
    return np.array(ops.convert_to_numpy(view(ops.convert_to_tensor(x))))


def test_mixup_lays_another_image_over_each():
    mixed = seen(Mixup(alpha=1.0, seed=0))
    assert mixed.shape == X.shape and not np.allclose(mixed, X)
    for image in mixed:
        # image = λ a + (1 − λ) b of two images of the batch, whatever λ.
        flat = X.reshape(len(X), -1)
        residuals = [
            np.linalg.lstsq(flat[[i, j]].T, image.ravel(), rcond=None)[1:2]
            for i in range(len(X))
            for j in range(i + 1, len(X))
        ]
        assert min(r[0].min() if r[0].size else 0.0 for r in residuals) < 1e-6


def test_cutmix_takes_every_pixel_from_one_of_the_images():
    cut = seen(CutMix(seed=0))
    assert not np.allclose(cut, X)
    pixels = np.abs(cut[:, None] - X[None]).min(1)
    assert pixels.max() < 1e-6


def test_cutout_cuts_a_hole_of_the_given_side():
    holes = seen(Cutout(side=0.5, fill_value=0.0, seed=0)) == 0
    sizes = holes.reshape(len(X), -1).sum(1)
    # 4 by 4 of 8 by 8 pixels, and a pixel more where the hole lies between two.
    assert sizes.min() >= 9 and sizes.max() <= 36
    assert np.allclose(seen(Cutout(0.5, seed=0))[~holes], X[~holes])


class Noting(DistillationLoss):
    """Keeps what it was given."""

    def __init__(self, given, **kwargs):
        super().__init__(**kwargs)
        self.note = given.append

    def compute(self, step):
        self.note(step)
        return ops.zeros_like(step.student_logits[..., 0])


class Negative(View):
    def __init__(self, **kwargs):
        super().__init__(keras.layers.Rescaling(-1.0), **kwargs)


def test_a_loss_sees_both_models_on_its_view_and_no_labels():
    steps = []
    losses = {"plain": Noting(steps), "turned": Noting(steps, view="negative")}
    d = distiller(losses, Negative(), rate=0.0)
    d.compute_losses(X, Y)
    plain, turned = steps[-2:]
    assert plain.y is not None and turned.y is None
    assert np.allclose(ops.convert_to_numpy(turned.x), -X)
    for model, side in ((d.student, "student"), (d.teacher, "teacher")):
        expected = ops.convert_to_numpy(model(-X))
        given = ops.convert_to_numpy(getattr(turned, f"{side}_logits"))
        assert np.allclose(given, expected, atol=1e-5)


def test_a_view_teaches():
    views = {"turned": Negative()}
    d = distiller(KD(view="turned"), views, task_weight=0.0)
    before = numbers(d.student)
    logs = d.fit(X, Y, epochs=20, batch_size=16, verbose=0).history
    assert logs["kd"][-1] < 0.5 * logs["kd"][0]
    # The same as the loss on the turned images themselves.
    other = distiller(KD(), None, task_weight=0.0)
    other.fit(-X, Y, epochs=20, batch_size=16, verbose=0, shuffle=False)
    assert close(d.student, other.student, 1e-4) and not close(before, d.student)


@pytest.mark.invariant(number=1)
def test_a_view_costs_one_pass_of_each_model_however_many_losses_use_it():
    small, count_small = network(1)
    large, count_large = network(9)
    losses = [KD(), KD(view="mixup"), KD(view="mixup", name="again")]
    d = Distiller(large, small, losses, views=Mixup(seed=0))
    d.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    # The first batch is also looked at.
    d.train_on_batch(X, Y)
    before = count_small.counts["calls"], count_large.counts["calls"]
    d.train_on_batch(X, Y)
    assert count_small.counts["calls"] - before[0] == 2
    assert count_large.counts["calls"] - before[1] == 2


def test_an_unknown_view_is_refused_with_the_list():
    with pytest.raises(ValueError, match="'kd' is for the view 'mixup'.*'cutout'"):
        distiller(KD(view="mixup"), Cutout())


def test_a_view_without_a_loss_is_refused():
    with pytest.raises(ValueError, match="no loss is for the view 'cutout'"):
        distiller(KD(), Cutout())


def test_two_views_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two views are called 'mixup'"):
        distiller(KD(), [Mixup(), Mixup()])


def test_a_layer_of_keras_is_a_view():
    d = distiller(KD(view="turn"), {"turn": keras.layers.RandomFlip(seed=0)})
    assert isinstance(d.views["turn"], View)
    d.fit(X, Y, verbose=0)


def test_a_view_wraps_a_layer_and_nothing_else():
    with pytest.raises(TypeError, match="wraps a Keras layer"):
        View(3)


def test_several_inputs_are_refused():
    with pytest.raises(ValueError, match="several inputs"):
        Mixup().call({"a": X, "b": X})


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("shape", [(8, 8), (8,)])
def test_what_is_no_batch_of_images_is_refused_before_the_first_step(view, shape):
    def flat(seed):
        return keras.Sequential(
            [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(CLASSES)]
        )

    small = flat(1)
    before = numbers(small)
    d = Distiller(flat(9), small, KD(view=view().name), views=view())
    x = np.ones((16, *shape), "float32")
    with pytest.raises(ValueError, match=r"changes images.*\(16, 8"):
        d.fit(x, Y, verbose=0)
    assert same(before, small)


@pytest.mark.parametrize("fill", [-1.0, 300, np.float32(0.25)])
def test_a_hole_may_have_any_value(fill):
    images = seen(Cutout(0.5, fill, seed=0))
    holes = images == fill
    assert (holes.sum((1, 2, 3)) >= 9).all()
    assert np.allclose(images[~holes], X[~holes])


@pytest.mark.invariant(number=10)
@pytest.mark.parametrize("view", [Mixup(), Mixup])
def test_a_loss_takes_the_name_of_a_view_and_no_view(view):
    with pytest.raises(TypeError, match=r"`KD`: `view` is the name.*views=\{'strong'"):
        KD(view=view)


@pytest.mark.invariant(number=10)
def test_a_class_is_no_view():
    with pytest.raises(TypeError, match="That is the class: call it"):
        distiller(KD(view="mixup"), Mixup)


@pytest.mark.invariant(number=1)
def test_a_view_of_the_student_alone_costs_no_pass_of_the_teacher():
    small, count_small = network(1)
    large, count_large = network(9)
    views = Negative(student_only=True)
    d = Distiller(large, small, [KD(), KD(view="negative", name="turned")], views=views)
    d.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    d.train_on_batch(X, Y)
    before = count_small.counts["calls"], count_large.counts["calls"]
    d.train_on_batch(X, Y)
    assert count_small.counts["calls"] - before[0] == 2
    assert count_large.counts["calls"] - before[1] == 1


@pytest.mark.graph
def test_a_view_of_the_student_alone_leaves_the_teacher_the_batch(tmp_path):
    steps = []
    views = Negative(student_only=True)
    d = distiller(Noting(steps, view="negative"), views, rate=0.0)
    d.compute_losses(X, Y)
    for model, x, side in ((d.student, -X, "student"), (d.teacher, X, "teacher")):
        given = ops.convert_to_numpy(getattr(steps[-1], f"{side}_logits"))
        assert np.allclose(given, ops.convert_to_numpy(model(x)), atol=1e-5)
    # Outputs that are stored are of the batch as it is.
    outputs = d.teacher.predict(X, verbose=0)
    view = View(keras.layers.Rescaling(-1.0), name="turned", student_only=True)
    by_model, stored = (
        Distiller(t, network(1)[0], KD(view="turned"), views=view)
        for t in (d.teacher, Stored(outputs))
    )
    for each in (by_model, stored):
        each.compile("sgd")
        each.fit(X, shuffle=False, verbose=0)
    assert close(by_model.student, stored.student, 1e-5)
    by_model.save(tmp_path / "d.keras")
    loaded = keras.saving.load_model(tmp_path / "d.keras")
    assert loaded.views["turned"].student_only


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
@pytest.mark.parametrize(
    "build",
    [
        *(Mixup, CutMix, lambda **kwargs: View(keras.layers.MixUp(), **kwargs)),
        lambda **kwargs: View(keras.Sequential([keras.layers.CutMix()]), **kwargs),
    ],
)
def test_mixed_samples_need_the_teacher_on_them_too(build):
    with pytest.raises(ValueError, match="puts two samples into each.*Leave `student"):
        build(student_only=True)


FIRST = {"data_format": "channels_first"}


def format_issues(view, shape=(3, 8, 8), **options):
    def build():
        layers = [keras.layers.Conv2D(2, 3, **options), keras.layers.Flatten()]
        return keras.Sequential([keras.Input(shape), *layers, keras.layers.Dense(3)])

    x = np.ones((8, *shape), "float32")
    losses = {"plain": KD(), "seen": KD(view=view.name)}
    report = diagnose(build(), build(), (x, Y[:8]), losses, views=view, verbose=0)
    return [i.message for i in report.issues if i.code == "view_data_format"]


@pytest.mark.skipif(
    keras.config.backend() == "tensorflow", reason="No such convolution on CPU."
)
@pytest.mark.parametrize(
    "build",
    [
        lambda **options: Cutout(**options),
        lambda **options: CutMix(**options),
        lambda **options: View(keras.layers.RandomFlip(**options)),
        lambda **options: View(
            keras.Sequential([keras.layers.RandomTranslation(0.1, 0.1, **options)])
        ),
    ],
)
def test_a_view_that_takes_channels_for_rows_is_refused(build):
    (message,) = format_issues(build(), **FIRST)
    assert "'channels_last'" in message and "(8, 3, 8, 8)" in message
    assert not format_issues(build(**FIRST), **FIRST)
    assert not format_issues(build(), (8, 8, 3))
    assert format_issues(build(**FIRST), (8, 8, 3))
    assert not format_issues(Mixup(), **FIRST)
    assert not format_issues(View(keras.layers.RandomBrightness(0.1)), **FIRST)


def test_a_hole_is_in_all_channels_where_they_come_first():
    x = np.ones((4, 3, 32, 64), "float32")
    cut = seen(Cutout(0.25, seed=0, data_format="channels_first"), x) == 0
    assert (cut == cut[:, :1]).all()
    assert (cut[:, 0].sum((1, 2)) == 8 * 16).all()
    loaded = Cutout.from_config(Cutout(**FIRST).get_config())
    assert loaded.layer.data_format == "channels_first"
