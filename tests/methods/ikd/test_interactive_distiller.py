"""The teacher learns what helps its student, and nothing else changes."""

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller, InteractiveDistiller
from keras_dtkd.losses import KD
from tests.tiny_models import (
    close,
    data,
    everything,
    numbers,
    one_hot,
    same,
    sequence,
    student,
    teacher,
    two_outputs,
)

X, Y = data(24)
EXAM = data(10, seed=1)
TAU, ALPHA, RATE = 2.0, 0.7, 0.5
CE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def net(width, seed, norm=False):
    init = keras.initializers.RandomNormal
    layers = [
        keras.Input((6,)),
        keras.layers.Dense(width, "tanh", kernel_initializer=init(0.0, 0.7, seed)),
    ]
    if norm:
        layers.append(keras.layers.BatchNormalization())
    layers.append(keras.layers.Dense(4, kernel_initializer=init(0.0, 0.7, seed + 1)))
    return keras.Sequential(layers)


def compiled_distiller(large, small, rate=0.0, **options):
    options = {
        "temperature": TAU,
        "alpha": ALPHA,
        "lookahead_learning_rate": RATE,
        "teacher_optimizer": keras.optimizers.SGD(1.0),
        **options,
    }
    distiller = InteractiveDistiller(large, small, **options)
    # XLA takes minutes for forward mode under TensorFlow.
    distiller.compile(keras.optimizers.SGD(rate), CE, jit_compile=False)
    distiller.set_exam(*EXAM)
    return distiller


def step(large, small, **options):
    """How much one step of plain SGD changes the teacher: less its gradient."""
    before = numbers(large)
    logs = compiled_distiller(large, small, **options).train_on_batch(
        X, Y, return_dict=True
    )
    return [b - a for b, a in zip(before, numbers(large), strict=True)], logs


# The same in float64 NumPy, from the formula.


def forward(weights, x):
    a, b, c, d = weights
    hidden = np.tanh(x @ a + b)
    return hidden, hidden @ c + d


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def looked_ahead(teacher_weights, student_weights, y=None):
    """The exam's cross-entropy after the student's step."""
    x, y = X.astype("float64"), np.eye(4)[Y] if y is None else y
    p = softmax(forward(teacher_weights, x)[1] / TAU)
    hidden, z = forward(student_weights, x)
    slope = ALPHA * TAU * (softmax(z / TAU) - p) + (1 - ALPHA) * (softmax(z) - y)
    slope /= len(x)
    a, b, c, d = student_weights
    inner = (slope @ c.T) * (1 - hidden**2)
    gradient = [x.T @ inner, inner.sum(0), hidden.T @ slope, slope.sum(0)]
    ahead = [w - RATE * g for w, g in zip(student_weights, gradient, strict=True)]
    x, y = EXAM
    q = softmax(forward(ahead, x.astype("float64"))[1])
    return -np.log(q[np.arange(len(y)), y]).mean()


def doubles(model):
    return [w.astype("float64") for w in numbers(model)]


@pytest.mark.parametrize("estimator", ["exact", "jvp", "finite_difference"])
@pytest.mark.graph
def test_the_teachers_gradient_is_that_of_the_exam(estimator):
    large, small = net(7, 1), net(5, 3)
    trainable_teacher, learned = doubles(large), doubles(small)
    gradient, logs = step(large, small, estimator=estimator)
    expected = looked_ahead(trainable_teacher, learned)
    assert float(logs["exam_loss"]) == pytest.approx(expected, rel=1e-5)
    random = np.random.default_rng(0)
    for _ in range(3):
        direction = [random.normal(size=w.shape) for w in trainable_teacher]
        ahead, behind = (
            looked_ahead(
                [w + h * v for w, v in zip(trainable_teacher, direction, strict=True)],
                learned,
            )
            for h in (1e-5, -1e-5)
        )
        actual = sum((g * v).sum() for g, v in zip(gradient, direction, strict=True))
        assert actual == pytest.approx((ahead - behind) / 2e-5, rel=1e-3)


@pytest.mark.parametrize("estimator", ["jvp", "finite_difference"])
def test_the_estimators_agree_with_batch_norm_and_dropout(estimator):
    def gradient(estimator):
        keras.utils.set_random_seed(0)
        *layers, last = student(norm=True, dropout=0.3).layers
        # Without a seed it draws from torch's own generator.
        small = keras.Sequential([*layers, keras.layers.Dropout(0.3), last])
        return step(net(7, 1), small, estimator=estimator)[0]

    for exact, actual in zip(gradient("exact"), gradient(estimator), strict=True):
        assert np.abs(exact - actual).max() < 1e-3 * np.abs(exact).max()


@keras.saving.register_keras_serializable("tests")
class Plain(keras.Model):
    """Its `call` has no `training` argument."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, inputs):
        return self.inner(inputs)


@pytest.mark.parametrize("estimator", ["exact", "finite_difference"])
def test_dropout_is_active_in_a_student_without_a_training_argument(estimator):
    actual = []
    for wrap in (Plain, lambda inner: inner):
        large, small = net(7, 1), wrap(student(norm=True, dropout=0.3))
        small(X)
        actual.append(step(large, small, estimator=estimator)[0])
    for wrapped, expected in zip(*actual, strict=True):
        assert np.abs(wrapped - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("exam_for", ["feedback", "student"])
def test_the_logged_loss_is_the_courses(exam_for):
    _, logs = step(net(7, 1), net(5, 3), exam_for=exam_for)
    course = ALPHA * logs["course"] + (1 - ALPHA) * logs["task_loss"]
    assert float(logs["loss"]) == pytest.approx(float(course), rel=1e-5)
    assert logs["exam_loss"] > 0.1


@pytest.mark.parametrize("estimator", ["jvp", "finite_difference"])
def test_the_estimators_agree_where_the_student_has_little_to_learn(estimator):
    def gradient(estimator):
        small = net(5, 3)
        # What it is surest of, and surer still: by 12 and more.
        z = small.predict(EXAM[0], verbose=0)
        margin = np.diff(np.sort(z)[:, -2:])[:, 0]
        sure = np.argsort(margin)[-3:]
        last = small.layers[-1]
        last.set_weights([12 / margin[sure].min() * w for w in last.get_weights()])
        distiller = compiled_distiller(
            large := net(7, 1),
            small,
            estimator=estimator,
            lookahead_learning_rate=1e-4,
            teacher_optimizer=keras.optimizers.SGD(1e9),
        )
        distiller.set_exam(EXAM[0][sure], z[sure].argmax(-1))
        before = numbers(large)
        logs = distiller.train_on_batch(X, Y, return_dict=True)
        assert float(logs["exam_loss"]) < 1e-4
        return [b - a for b, a in zip(before, numbers(large), strict=True)]

    exact, actual = gradient("exact"), gradient(estimator)
    greatest = max(np.abs(g).max() for g in exact)
    assert greatest > 1e-3
    assert all(
        np.abs(a - b).max() < 1e-3 * greatest
        for a, b in zip(exact, actual, strict=True)
    )


def test_an_exam_step_lowers_the_exam_after_the_look_ahead():
    distiller = compiled_distiller(
        net(7, 1), net(5, 3), teacher_optimizer=keras.optimizers.SGD(0.3)
    )
    losses = [
        float(distiller.train_on_batch(X, Y, return_dict=True)["exam_loss"])
        for _ in range(6)
    ]
    assert all(
        after < before for before, after in zip(losses, losses[1:], strict=False)
    )


def test_the_student_takes_the_course_of_a_distiller():
    """On the teacher as it was before the step."""
    ours, theirs = student(norm=True), student(norm=True)
    for small in (ours, theirs):
        small.layers[0].activity_regularizer = keras.regularizers.L2(0.1)
    mine = compiled_distiller(net(7, 1), ours, rate=0.1)
    plain = Distiller(net(7, 1), theirs, KD(TAU, weight=ALPHA), task_weight=1 - ALPHA)
    plain.compile(keras.optimizers.SGD(0.1), CE)
    logs, expected = (d.train_on_batch(X, Y, return_dict=True) for d in (mine, plain))
    # Statistics too: they move once a step, whatever is looked ahead.
    assert close(ours, theirs, 1e-5)
    assert float(logs["loss"]) == pytest.approx(float(expected["loss"]), rel=1e-5)


@pytest.mark.graph
def test_fit_changes_the_teacher_and_restore_undoes_it_to_the_byte():
    large = teacher()
    before = [w.tobytes() for w in large.get_weights()]
    distiller = InteractiveDistiller(large, student())
    history = distiller.fit(
        X, Y, epochs=2, batch_size=8, exam=EXAM, validation_data=(X, Y), verbose=0
    ).history
    assert {"exam_loss", "course", "task_loss", "val_accuracy"} <= set(history)
    changed = [w.tobytes() for w in large.get_weights()]
    assert changed != before
    # Its statistics are no part of what it learns.
    kinds = [w.trainable for w in large.weights]
    pairs = zip(before, changed, kinds, strict=True)
    assert all((a != b) == trainable for a, b, trainable in pairs)
    distiller.fit(X, Y, verbose=0)
    distiller.restore_teacher()
    assert [w.tobytes() for w in large.get_weights()] == before


@pytest.mark.single_backend
def test_a_restored_teacher_has_its_random_states_of_before_the_first_fit():
    large = teacher()
    large = keras.Sequential([large, keras.layers.Dropout(0.5)])
    large.build((None, X.shape[1]))
    before = [keras.ops.convert_to_numpy(v.value).tobytes() for v in large.variables]
    distiller = InteractiveDistiller(large, student())
    distiller.fit(X, Y, exam=EXAM, verbose=0)
    large(X, training=True)
    distiller.restore_teacher()
    restored = [keras.ops.convert_to_numpy(v.value).tobytes() for v in large.variables]
    assert len(before) > len(large.weights) and restored == before


def with_adagrad():
    optimizer = keras.optimizers.Adagrad(0.1, initial_accumulator_value=0.2)
    distiller = InteractiveDistiller(
        teacher(), student(), teacher_optimizer=optimizer, lookahead_learning_rate=2.0
    )
    # A student's optimizer without a memory.
    distiller.compile(keras.optimizers.SGD(0.1), CE)
    return distiller


@pytest.mark.single_backend
def test_a_restored_teacher_learns_as_if_for_the_first_time():
    def trainable_teacher():
        distiller.student.set_weights(weights)
        distiller.fit(X, Y, exam=EXAM, epochs=2, shuffle=False, verbose=0)
        return numbers(distiller.trainable_teacher)

    weights, distiller = student().get_weights(), with_adagrad()
    first = trainable_teacher()
    distiller.restore_teacher()
    assert not same(first, numbers(distiller.trainable_teacher))
    assert same(first, trainable_teacher())


def test_a_loaded_teacher_is_restored_to_its_state_in_the_file(tmp_path):
    distiller = with_adagrad()
    distiller.fit(X, Y, exam=EXAM, verbose=0)
    distiller.save(tmp_path / "d.keras")
    distiller = keras.models.load_model(tmp_path / "d.keras")
    before = numbers(distiller.trainable_teacher)
    distiller.fit(X, Y, exam=EXAM, verbose=0)
    distiller.restore_teacher()
    assert same(before, numbers(distiller.trainable_teacher))
    steps, _, *gathered = distiller.optimizer.teacher_optimizer.variables
    assert int(steps.value) == 0
    assert all(np.allclose(keras.ops.convert_to_numpy(v), 0.2) for v in gathered)


@pytest.mark.single_backend
def test_frozen_layers_of_the_teacher_stay():
    large = net(7, 1)
    large.layers[0].trainable = False
    gradient, _ = step(large, net(5, 3))
    moved = [np.abs(g).max() > 0 for g in gradient]
    assert moved == [False, False, True, True]


@pytest.mark.single_backend
def test_the_teachers_regularizers_count_nowhere():
    def run(regularizer):
        large, small = net(7, 1), net(5, 3)
        for layer in large.layers:
            layer.kernel_regularizer = layer.kernel.regularizer = regularizer
            layer.activity_regularizer = regularizer
        for layer in small.layers:
            layer.kernel_regularizer = keras.regularizers.L2(0.1)
            layer.kernel.regularizer = layer.kernel_regularizer
        gradient, logs = step(large, small)
        distiller = compiled_distiller(large, small)
        losses = [logs["loss"], distiller.evaluate(X, Y, verbose=0)]
        small.compile("sgd", CE)
        assert losses[1] == pytest.approx(small.evaluate(X, Y, verbose=0), rel=1e-5)
        return [*gradient, np.array(losses)]

    assert close(run(None), run(keras.regularizers.L2(1.0)), 1e-6)


@pytest.mark.parametrize("state", ["frozen", "unbuilt"])
def test_a_teacher_that_is_ready_after_compiling_has_its_own_optimizer(state):
    large = net(7, 1)
    if state == "unbuilt":
        large = keras.Sequential([keras.layers.Dense(4)])
    large.trainable = state != "frozen"
    distiller = compiled_distiller(
        large, net(5, 3), 1.0, teacher_optimizer=keras.optimizers.SGD(0.0)
    )
    large.trainable = True
    large(X)
    before = numbers(large)
    distiller.train_on_batch(X, Y)
    assert same(before, large)


def test_its_losses_are_computed_outside_of_a_step_too():
    distiller = compiled_distiller(net(7, 1), net(5, 3))
    logs = distiller.train_on_batch(X, Y, return_dict=True)
    again = compiled_distiller(net(7, 1), net(5, 3)).compute_losses(X, Y)
    assert float(again["course"]) == pytest.approx(float(logs["course"]), rel=1e-5)


@pytest.mark.single_backend
@pytest.mark.graph
def test_an_exam_that_is_drawn_is_another_one_each_time():
    distiller = compiled_distiller(
        net(7, 1),
        net(5, 3),
        exam_batch_size=4,
        teacher_optimizer=keras.optimizers.SGD(0.0),
    )
    losses = {
        float(distiller.train_on_batch(X, Y, return_dict=True)["exam_loss"])
        for _ in range(4)
    }
    assert len(losses) == 4


@pytest.mark.single_backend
def test_the_exams_labels_may_have_another_form_than_the_courses():
    """Integers, a column of them, or one-hot: the same exam."""
    (x, y), losses = EXAM, []
    for labels in (Y, one_hot(Y)):
        for exam in (y, y[:, None], one_hot(y)):
            distiller = InteractiveDistiller(net(7, 1), net(5, 3))
            distiller.fit(X, labels, exam=(x, exam), verbose=0)
            losses.append(distiller.get_metrics_result()["exam_loss"])
    assert close(losses, [losses[0]] * 6, 1e-6)


@pytest.mark.single_backend
def test_soft_labels_of_the_course_and_of_the_exam_stay_soft():
    """A row of labels counts as what it is: the loss is linear in them."""
    large, small, half = net(7, 1), net(5, 3), np.eye(4, dtype="float32")
    x, y = EXAM
    mixed = 0.75 * half[y] + 0.25 * half[(y + 1) % 4]

    def examined(labels):
        distiller = compiled_distiller(net(7, 1), net(5, 3))
        distiller.set_exam(x, labels)
        return float(distiller.train_on_batch(X, Y, return_dict=True)["exam_loss"])

    expected = 0.75 * examined(y) + 0.25 * examined((y + 1) % 4)
    assert examined(mixed) == pytest.approx(expected, rel=1e-5)
    trainable_teacher, learned = doubles(large), doubles(small)
    course = 0.6 * half[Y] + 0.4 * half[(Y + 2) % 4]
    distiller = compiled_distiller(large, small)
    distiller.compile(
        keras.optimizers.SGD(0.0),
        keras.losses.CategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    actual = float(distiller.train_on_batch(X, course, return_dict=True)["exam_loss"])
    expected = looked_ahead(trainable_teacher, learned, course.astype("float64"))
    assert actual == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("exam_for", ["feedback", "teacher", "student"])
def test_masked_positions_count_nowhere(exam_for):
    def run(fill):
        random = np.random.default_rng(0)
        x, y = random.integers(1, 9, (6, 5)), random.integers(0, 3, (6, 5))
        x[:, 3:], y[2:, 3:] = 0, fill
        large, small = sequence(1), sequence(5)
        distiller = InteractiveDistiller(
            large,
            small,
            exam_for=exam_for,
            teacher_optimizer=keras.optimizers.SGD(1.0),
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        distiller.compile(keras.optimizers.SGD(1.0), loss)
        distiller.set_exam(x[4:], y[4:])
        before = numbers(large)
        logs = distiller.train_on_batch(x[:4], y[:4], return_dict=True)
        moved = any(np.any(a != b) for a, b in zip(before, numbers(large), strict=True))
        assert moved == (exam_for != "student")
        return [*numbers(large), *numbers(small), np.array(logs["exam_loss"])]

    assert close(run(0), run(2), 1e-6)


@pytest.mark.single_backend
@pytest.mark.parametrize("kind", ["dict", "list"])
def test_of_several_outputs_the_distilled_one_is_examined(kind):
    random = np.random.default_rng(0)
    size, weights = random.normal(size=(24, 1)), random.uniform(size=24)
    others = abs(size[:, 0])

    def named(label, size):
        return {"label": label, "size": size} if kind == "dict" else [label, size]

    def gradient(exam, only):
        large, small = two_outputs(kind), two_outputs(kind, seed=5)
        loss, y, weight = named(CE, "mse"), named(Y, size), named(weights, others)
        if only:
            large, small = (
                keras.Model(
                    model.inputs, keras.tree.flatten(model.outputs)[0], name="only"
                )
                for model in (large, small)
            )
            loss, y, weight = CE, Y, weights
        before = numbers(large)
        distiller = InteractiveDistiller(
            large,
            small,
            output=None if only else "label",
            teacher_optimizer=keras.optimizers.SGD(1.0),
        )
        distiller.compile(keras.optimizers.SGD(0.0), loss)
        distiller.set_exam(EXAM[0], exam)
        logs = distiller.train_on_batch(X, y, weight, return_dict=True)
        moved = [b - a for b, a in zip(before, numbers(large), strict=True)]
        return [*moved[:4], np.array(logs["exam_loss"])]

    expected = gradient(EXAM[1], only=True)
    assert np.abs(expected[0]).max() > 1e-5
    for exam in (EXAM[1], named(EXAM[1], size[:10])):
        assert close(gradient(exam, only=False), expected, 1e-6)
    distiller = InteractiveDistiller(
        two_outputs("dict"), two_outputs("dict"), output="label"
    )
    with pytest.raises(ValueError, match=r"needs the labels .* 'label'. There are: "):
        distiller.set_exam(EXAM[0], {"size": size[:10]})


@pytest.mark.single_backend
def test_control_without_feedback_the_teacher_learns_the_exam():
    large, other, small = net(7, 1), net(7, 1), net(5, 3)
    gradient, logs = step(large, small, exam_for="teacher")
    assert float(logs["exam_loss"]) == pytest.approx(
        float(CE(EXAM[1], other(EXAM[0]))), rel=1e-5
    )
    before = numbers(other)
    other.compile(keras.optimizers.SGD(1.0), CE)
    other.train_on_batch(*EXAM)
    expected = [b - a for b, a in zip(before, numbers(other), strict=True)]
    assert close(gradient, expected, 1e-5)


@pytest.mark.single_backend
def test_control_with_the_exam_for_the_student_the_teacher_stays():
    large, small = teacher(), student(norm=True)
    before = everything(large)
    distiller = InteractiveDistiller(large, small, exam_for="student")
    distiller.fit(X, Y, epochs=2, exam=EXAM, verbose=0)
    after = everything(large)
    assert after == before
    without = student(norm=True)
    plain = InteractiveDistiller(teacher(), without)
    plain.fit(X, Y, epochs=2, exam=EXAM, verbose=0)
    assert not close(small, without, 1e-4)


@pytest.mark.invariant(number=7)
@pytest.mark.parametrize("estimator", ["exact", "finite_difference"])
@pytest.mark.graph
def test_the_look_ahead_follows_the_course_that_a_callback_changes(estimator):
    """As one that was made with the new values."""

    class Change(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            course = self.model.distillation_losses["course"]
            course.temperature.temperature = TAU if epoch else 5.0
            course.weight = ALPHA if epoch else 0.2
            self.model.task_weight = 1 - ALPHA if epoch else 0.0
            self.model.student.set_weights(small)
            self.model.trainable_teacher.set_weights(large)

    small, large = numbers(net(5, 3)), numbers(net(7, 1))

    def run(temperature, alpha):
        distiller = InteractiveDistiller(
            net(7, 1), net(5, 3), temperature=temperature, alpha=alpha,
            estimator=estimator, lookahead_learning_rate=RATE,
            teacher_optimizer=keras.optimizers.SGD(1.0),
        )  # fmt: skip
        distiller.compile(keras.optimizers.SGD(0.1), CE, jit_compile=False)
        return distiller

    changed = run(5.0, 0.2)
    changed.fit(
        X, Y, batch_size=24, epochs=2, shuffle=False, exam=EXAM,
        callbacks=[Change()], verbose=0,
    )  # fmt: skip
    plain = run(TAU, ALPHA)
    plain.fit(X, Y, batch_size=24, shuffle=False, exam=EXAM, verbose=0)
    assert close(changed.trainable_teacher, plain.trainable_teacher)
    assert close(changed.student, plain.student)
    assert not close(changed.trainable_teacher, large)


def test_saved_and_loaded_it_goes_on_bit_for_bit(tmp_path):
    large, small = net(7, 1), student(norm=True)
    distiller = InteractiveDistiller(large, small, exam_batch_size=5)
    options = {"batch_size": 8, "shuffle": False, "verbose": 0, "exam": EXAM}
    distiller.fit(X, Y, epochs=2, **options)
    distiller.save(tmp_path / "both.keras")
    loaded = keras.saving.load_model(tmp_path / "both.keras")
    assert same(loaded.student, small) and same(loaded.trainable_teacher, large)
    for one in (distiller, loaded):
        one.fit(X, Y, epochs=2, **options)
    assert same(loaded.student, small) and same(loaded.trainable_teacher, large)


@pytest.mark.single_backend
def test_a_schedule_changes_the_students_rate_alone():
    distiller = compiled_distiller(net(7, 1), net(5, 3), rate=0.1)
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch: 0.01)
    distiller.fit(X, Y, verbose=0, callbacks=[schedule])
    optimizer = distiller.optimizer
    assert float(optimizer.student_optimizer.learning_rate) == pytest.approx(0.01)
    assert float(optimizer.teacher_optimizer.learning_rate) == 1.0
    assert float(optimizer.learning_rate) == pytest.approx(0.01)


@pytest.mark.single_backend
def test_evaluate_is_the_students():
    small = student()
    distiller = InteractiveDistiller(teacher(), small)
    distiller.fit(X, Y, exam=EXAM, verbose=0)
    logs = distiller.evaluate(X, Y, verbose=0, return_dict=True)
    right = (small.predict(X, verbose=0).argmax(-1) == Y).mean()
    assert logs["accuracy"] == pytest.approx(right)
    assert "exam_loss" not in logs


@pytest.mark.single_backend
def test_probabilities_of_both_models_are_recognized():
    gradients = []
    for head in (None, "softmax"):
        large, small = teacher(head=head, scale=1.0), student(head=head)
        before = numbers(large)
        distiller = InteractiveDistiller(
            large, small, teacher_optimizer=keras.optimizers.SGD(1.0)
        )
        distiller.set_exam(*EXAM)
        distiller.train_on_batch(X, Y)
        gradients.append([b - a for b, a in zip(before, numbers(large), strict=True)])
    assert close(*gradients, 1e-4)


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
def test_another_exam_is_looked_at_between_two_batches_too():
    large = net(7, 1)
    distiller = compiled_distiller(large, net(5, 3))
    distiller.train_on_batch(X, Y)
    before = numbers(large)
    distiller.set_exam(np.nan * EXAM[0], EXAM[1])
    with pytest.raises(ValueError, match="10 of 10 inputs of the exam hold NaN"):
        distiller.train_on_batch(X, Y)
    assert same(before, large)
