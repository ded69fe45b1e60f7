"""What the user changes between two runs counts in the next."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import (
    Distiller,
    InteractiveDistiller,
    losses,
    temperatures,
    views,
)
from keras_dtkd.losses import KD
from tests.tiny_models import close, data, numbers, same, student, teacher

pytestmark = pytest.mark.graph
X, Y = data(32)


def distiller(small=None, loss=None, optimizer=None, **kwargs):
    small = student() if small is None else small
    d = Distiller(teacher(), small, KD() if loss is None else loss, **kwargs)
    d.compile(
        optimizer or keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return d


def fit(d, epochs=1):
    return d.fit(X, Y, batch_size=16, epochs=epochs, shuffle=False, verbose=0).history


def to_numpy(variable):
    """A copy: torch would share it."""
    return np.array(ops.convert_to_numpy(variable))


def kernels(model):
    return [to_numpy(layer.kernel) for layer in model.layers]


@pytest.mark.parametrize("automatic", [False, True])
def test_a_layer_frozen_between_fits_stays(automatic, recwarn):
    d = distiller()
    if automatic:
        d = Distiller(teacher(), student(), KD())
    fit(d)
    d.student.layers[0].trainable = False
    before = kernels(d.student)
    fit(d)
    after = kernels(d.student)
    assert (before[0] == after[0]).all() and (before[1] != after[1]).any()
    d.student.layers[0].trainable = True
    fit(d)
    assert (kernels(d.student)[0] != before[0]).any()
    assert not [w for w in recwarn if "recompile" in str(w.message)]


def test_the_optimizer_keeps_its_state_of_the_variables_that_it_knew():
    runs = []
    for frozen_between in (False, True):
        d = distiller()
        fit(d, epochs=2)
        if frozen_between:
            # Without a step: the optimizer is made again, twice.
            d.student.layers[0].trainable = False
            d.evaluate(X, Y, verbose=0)
            state = {v.path: to_numpy(v) for v in d.optimizer.variables}
            d.student.layers[0].trainable = True
            d.evaluate(X, Y, verbose=0)
            assert int(d.optimizer.iterations) == 4
            # What was frozen starts anew, the rest goes on.
            paths = [v.path for v in d.student.layers[1].trainable_variables]
            for variable in d.optimizer.variables:
                if any(p.replace("/", "_") in variable.path for p in paths):
                    assert (to_numpy(variable) == state[variable.path]).all()
                    assert np.abs(to_numpy(variable)).max() > 0
        runs.append(d)
    assert same(numbers(runs[0].student), runs[1].student)


def test_decay_that_was_excluded_by_hand_is_named():
    d = distiller(optimizer=keras.optimizers.AdamW(0.01))
    fit(d)
    d.student.layers[0].trainable = False
    with pytest.warns(UserWarning, match="excluded variables from its weight decay"):
        fit(d)


def test_batch_statistics_frozen_between_fits_stay():
    d = distiller(student(norm=True))
    fit(d)
    norm = d.student.layers[1]
    for layer in (norm, d.student.layers[0]):
        layer.trainable = False
    before = numbers(norm)
    fit(d)
    assert same(before, norm)


def test_lora_between_fits_trains_the_new_weights_alone():
    d = distiller()
    fit(d)
    layer = d.student.layers[0]
    layer.enable_lora(2)
    kernel = to_numpy(layer._kernel)
    before = [to_numpy(v) for v in layer.trainable_variables]
    fit(d, epochs=2)
    assert (to_numpy(layer._kernel) == kernel).all()
    after = [to_numpy(v) for v in layer.trainable_variables]
    assert len(after) == 3 and not any(map(np.array_equal, before, after))


def test_a_layer_replaced_between_fits_is_trained():
    d = distiller()
    fit(d)
    d.student.pop()
    d.student.add(keras.layers.Dense(4, kernel_initializer="ones"))
    fit(d)
    assert (kernels(d.student)[1] != 1.0).any()
    expected = ops.convert_to_numpy(d.student(ops.convert_to_tensor(X)))
    assert close([expected], [d.predict(X, verbose=0)], 1e-5)


def test_dropout_changed_between_fits_counts():
    d = distiller(student(dropout=0.5))
    fit(d)
    d.student.layers[1].rate = 0.0
    d.optimizer.learning_rate = 0.0
    losses_ = fit(d, epochs=2)["loss"]
    assert losses_[0] == pytest.approx(losses_[1], rel=1e-5)


@pytest.mark.parametrize("how", ["assigned", "in place", "dict"])
def test_losses_replaced_between_fits_are_trained_and_logged(how):
    d = distiller(optimizer=keras.optimizers.SGD(0.1))
    fit(d)
    new = losses.LogitMSE()
    if how == "in place":
        del d.distillation_losses["kd"]
        d.distillation_losses["logit_mse"] = new
    else:
        d.distillation_losses = new if how == "assigned" else {"logit_mse": new}
    again = distiller(loss=losses.LogitMSE(), optimizer=keras.optimizers.SGD(0.1))
    again.student.set_weights(d.student.get_weights())
    logs, expected = fit(d), fit(again)
    assert list(logs) == list(expected) and "logit_mse" in logs
    assert close(d.student, again.student)


def test_a_learned_temperature_set_between_fits_is_trained_and_one_taken_out_is_not():
    d = distiller()
    fit(d)
    rule = temperatures.Curriculum(epochs=1)
    d.distillation_losses = KD(temperature=rule)
    raw = rule.raw_temperature
    fit(d, epochs=2)
    assert rule.raw_temperature != raw
    raw = rule.raw_temperature
    d.distillation_losses = KD()
    fit(d)
    assert rule.raw_temperature == raw
    assert not any(v is w for v in d.variables for w in rule.variables)


def test_a_flag_of_a_loss_changed_between_fits_counts():
    d = distiller(loss=losses.LogitMSE(), optimizer=keras.optimizers.SGD(0.0))
    first = fit(d)["logit_mse"][0]
    d.distillation_losses["logit_mse"].centered = True
    centered = fit(d)["logit_mse"][0]
    fresh = distiller(
        loss=losses.LogitMSE(centered=True), optimizer=keras.optimizers.SGD(0.0)
    )
    assert centered == pytest.approx(fit(fresh)["logit_mse"][0], rel=1e-5)
    assert centered != pytest.approx(first, rel=1e-3)


def test_views_replaced_between_fits_count_and_are_checked():
    d = distiller(optimizer=keras.optimizers.SGD(0.0))
    d.views = {"scaled": views.View(keras.layers.Rescaling(2.0))}
    d.distillation_losses = KD(view="scaled")
    first = fit(d)["kd"][0]
    d.views = {"scaled": views.View(keras.layers.Rescaling(0.0))}
    assert fit(d)["kd"][0] < 0.9 * first
    d.views = {}
    with pytest.raises(ValueError, match="scaled"):
        fit(d)


def test_another_student_is_refused():
    d = distiller()
    with pytest.raises(ValueError, match="Make another one: `Distiller"):
        d.student = student()


@pytest.mark.parametrize(
    "loss", [KD, lambda: KD(temperature=temperatures.Curriculum())]
)
def test_the_students_learning_rate_set_between_fits_counts(loss):
    small = student()
    small.compile(
        keras.optimizers.Adam(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    d = Distiller(teacher(), small, loss())
    fit(d)
    small.optimizer.learning_rate = 0.0
    before, steps = numbers(small), int(d.optimizer.iterations)
    fit(d)
    assert same(before, small)
    assert int(d.optimizer.iterations) == steps + 2
    # What a callback does to the Distiller's own lasts.
    d.optimizer.learning_rate = 0.1
    fit(d)
    assert not same(before, small)


def test_what_has_not_changed_is_not_compiled_again():
    d = distiller()
    fit(d)
    functions = d.train_function, d.optimizer
    d.evaluate(X, Y, verbose=0)
    d.distillation_losses["kd"].weight = 0.5
    d.predict(X, verbose=0)
    fit(d)
    assert (d.train_function, d.optimizer) == functions


def test_train_on_batch_follows_too():
    d = distiller()
    d.train_on_batch(X, Y)
    d.student.layers[0].trainable = False
    before = kernels(d.student)
    d.train_on_batch(X, Y)
    after = kernels(d.student)
    assert (before[0] == after[0]).all() and (before[1] != after[1]).any()


@pytest.mark.parametrize("when", ["between", "during"])
def test_a_teacher_overwritten_in_place_is_refused_until_it_is_given_again(when):
    d = distiller()

    def overwrite(*args):
        layer = d.teacher.layers[-1]
        layer.set_weights([2.0 * w for w in layer.get_weights()])

    callback = keras.callbacks.LambdaCallback(on_epoch_end=overwrite)
    d.fit(X, Y, verbose=0, callbacks=[callback] if when == "during" else [])
    if when == "between":
        overwrite()
    before = numbers(d.student)
    with pytest.raises(ValueError, match="changed in place.*distiller.teacher = teach"):
        fit(d)
    assert same(before, d.student)
    d.teacher = d.teacher
    fit(d)
    fit(d)
    assert not same(before, d.student)


def test_what_an_interactive_distiller_cannot_follow_is_an_error():
    d = InteractiveDistiller(student(seed=5), student())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    d.compile("sgd", loss)
    d.fit(X, Y, exam=(X, Y), verbose=0)
    d.student.layers[0].trainable = False
    with pytest.raises(ValueError, match="does not know them. Compile it again"):
        d.fit(X, Y, verbose=0)
    d.compile("sgd", loss)
    before = kernels(d.student)
    d.fit(X, Y, verbose=0)
    assert (before[0] == kernels(d.student)[0]).all()
    with pytest.raises(ValueError, match="cannot be exchanged. Make another one"):
        d.distillation_losses = KD()


def test_another_divergence_is_followed():
    d, expected = (
        distiller(loss=KD(divergence=name), optimizer=keras.optimizers.SGD(0.1))
        for name in ("kl", "jsd")
    )
    fit(d)
    d.distillation_losses["kd"].divergence = "jsd"
    expected.student.set_weights(numbers(d.student))
    loss = fit(d)["kd"]
    assert loss == pytest.approx(fit(expected)["kd"], rel=1e-4)


def test_another_from_logits_is_followed():
    d = distiller()
    fit(d)
    with pytest.raises(ValueError, match="`from_logits` must be one of True, False"):
        d.from_logits = "yes"
    d.from_logits = False
    before = numbers(d.student)
    # As where it is given from the beginning.
    with pytest.raises(ValueError, match="from_logits=False"):
        fit(d)
    assert same(before, d.student)
    d.from_logits = "auto"
    fit(d)


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
@pytest.mark.parametrize("name", ["distilled_output", "chunk_size"])
def test_what_was_prepared_for_is_not_exchanged(name):
    d = distiller()
    before = getattr(d, name)
    with pytest.raises(ValueError, match=f"`{name}` cannot be exchanged. Make another"):
        setattr(d, name, 1)
    assert getattr(d, name) == before


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("temperature", r"distillation_losses\['kd'\]\.temperature = 0\.5"),
        ("weight", r"distillation_losses\['kd'\]\.weight = 0\.5"),
        ("alpha", "`alpha`. Give `task_weight=0.5`"),
    ],
)
def test_a_number_of_a_loss_is_not_set_on_a_distiller(name, message):
    class Own(Distiller):
        pass

    d = distiller()
    with pytest.raises(ValueError, match=f"`Distiller`: it has no .*{message}"):
        setattr(d, name, 0.5)
    d.patience = 3
    setattr(Own(teacher(), student()), name, 0.5)
