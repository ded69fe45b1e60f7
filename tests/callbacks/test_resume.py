"""Invariant 8: nothing lost, and no half file taken for a whole one."""

import h5py
import keras
import numpy as np
import pytest

from keras_dtkd import Distiller, callbacks, temperatures
from keras_dtkd.callbacks import Resume
from keras_dtkd.callbacks.periodic_evaluation import PeriodicEvaluation
from keras_dtkd.losses import DTKD, KD
from keras_dtkd.views import View
from tests.tiny_models import (
    CLASSES,
    FEATURES,
    data,
    distiller,
    numbers,
    same,
    student,
    teacher,
)

pytestmark = pytest.mark.invariant(number=8)

X, Y = data(24)
EPOCHS = 4


class Crash(keras.callbacks.Callback):
    def __init__(self, epoch, batch):
        super().__init__()
        self.at, self.now = (epoch, batch), 0

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.now, batch) == self.at:
            raise SystemError("power cut")


def run(folder, *callbacks, epochs=EPOCHS, **kwargs):
    """As in a new process: everything made again."""
    keras.utils.set_random_seed(1)
    d = distiller(DTKD(rule="std", warmup_epochs=3), keras.optimizers.Adam(0.01))
    resume = Resume(folder)
    first = {"initial_epoch": resume.epoch, **kwargs}
    logs = d.fit(
        X,
        Y,
        batch_size=8,
        epochs=epochs,
        shuffle=False,
        callbacks=[*callbacks, resume],
        verbose=0,
        **first,
    ).history
    return d, logs


def state(d):
    variables = (*d.variables, *d.optimizer.variables)
    return [keras.ops.convert_to_numpy(v.value) for v in variables]


@pytest.mark.graph
def test_a_crashed_run_goes_on_bit_for_bit(tmp_path):
    expected, logs = run(tmp_path / "unbroken")
    for epoch in (2, 3):
        with pytest.raises(SystemError):
            run(tmp_path / "broken", Crash(epoch, 1))
        assert Resume(tmp_path / "broken").epoch == epoch
    d, last = run(tmp_path / "broken")
    assert same(state(d), state(expected))
    assert last["loss"] == logs["loss"][3:]


@pytest.mark.single_backend
def test_a_finished_run_continues_with_more_epochs(tmp_path):
    expected, _ = run(tmp_path / "at once", epochs=3)
    run(tmp_path / "in parts", epochs=2)
    d, _ = run(tmp_path / "in parts", epochs=3)
    assert same(state(d), state(expected))


def test_chance_goes_on_too(tmp_path):
    """Of layers without a seed of their own."""

    def run(folder, epochs):
        keras.utils.set_random_seed(1)
        student = keras.Sequential(
            [
                keras.Input((FEATURES,)),
                keras.layers.Dropout(0.5),
                keras.layers.Dense(CLASSES),
            ]
        )
        d = Distiller(teacher(), student, KD())
        d.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        resume = Resume(folder)
        options = {"initial_epoch": resume.epoch, "shuffle": False, "verbose": 0}
        d.fit(X, Y, 8, epochs, callbacks=[resume], **options)
        return state(d)

    expected = run(tmp_path / "unbroken", 4)
    run(tmp_path / "broken", 2)
    assert same(run(tmp_path / "broken", 4), expected)


@pytest.mark.single_backend
def test_other_ranks_only_read(tmp_path, monkeypatch):
    expected, _ = run(tmp_path, epochs=2)
    (tmp_path / "unfinished-01-3.weights.h5").write_text("of rank 0")
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(callbacks.resume.backend, "rank_and_world_size", lambda: (1, 2))
    resume = Resume(tmp_path)
    d = distiller(DTKD(rule="std", warmup_epochs=3), keras.optimizers.Adam(0.01))
    resume.set_model(d)
    resume.on_train_begin()
    assert same(state(d), state(expected))
    resume.on_epoch_end(2)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.single_backend
def test_one_whole_file_is_left(tmp_path):
    tmp_path.joinpath("unfinished-01-3.weights.h5").write_text("killed")
    run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["4.weights.h5"]


@pytest.mark.single_backend
def test_a_write_that_was_broken_off_leaves_the_epoch_before(tmp_path, monkeypatch):
    run(tmp_path, epochs=2)

    def half(self, path, **kwargs):
        with open(path, "wb") as file:
            file.write(b"half of it")
        raise SystemError("power cut")

    with monkeypatch.context() as patch, pytest.raises(SystemError):
        patch.setattr(keras.Model, "save_weights", half)
        run(tmp_path, epochs=3)
    assert Resume(tmp_path).epoch == 2
    d, _ = run(tmp_path, epochs=3)
    assert np.isfinite(np.concatenate([w.ravel() for w in numbers(d.student)])).all()
    assert [path.name for path in tmp_path.iterdir()] == ["3.weights.h5"]


@pytest.mark.single_backend
def test_a_damaged_state_is_called_damaged(tmp_path):
    run(tmp_path, epochs=2)
    path = tmp_path / "2.weights.h5"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="2.weights.h5 cannot be read, or is damaged"):
        run(tmp_path)
    assert path.read_bytes() == whole[: len(whole) // 2]


@pytest.mark.single_backend
def test_a_fit_that_begins_elsewhere_is_refused(tmp_path):
    run(tmp_path, epochs=2)
    with pytest.raises(ValueError, match="`Resume`.*2 epochs.*initial_epoch=0"):
        run(tmp_path, initial_epoch=0)


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
@pytest.mark.parametrize(
    "changed", [{"student": student(width=9)}, {"losses": [DTKD(), KD()]}]
)
def test_the_state_of_another_run_is_refused_by_its_folder(tmp_path, changed):
    run(tmp_path, epochs=1)
    options = {"losses": DTKD(rule="std", warmup_epochs=3), **changed}
    d = distiller(options.pop("losses"), keras.optimizers.Adam(0.01), **options)
    with pytest.raises(ValueError, match=f"`Resume`.*{tmp_path.name}.*new folder"):
        d.fit(X, Y, epochs=2, initial_epoch=1, callbacks=[Resume(tmp_path)], verbose=0)


def resumed(
    folder, loss, rate=0.1, task_weight=1.0, epochs=1, callbacks=(), stddev=0.1
):
    views = View(keras.layers.GaussianNoise(stddev), name="noise")
    losses = {"kd": loss, "noisy": KD(view="noise")}
    optimizer = keras.optimizers.SGD(rate)
    d = distiller(losses, optimizer, task_weight=task_weight, views=views)
    resume = Resume(folder)
    options = {"initial_epoch": resume.epoch, "verbose": 0}
    d.fit(X, Y, epochs=epochs, callbacks=[*callbacks, resume], **options)
    return d


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"loss": KD(1.0)}, r"kd\.temperature\.temperature was 4\.0 and is 1\.0\."),
        ({"loss": KD(weight=0.5)}, r"kd\.weight was 1\.0 and is 0\.5"),
        ({"loss": KD(divergence="jsd")}, "kd.divergence was 'kl' and is 'jsd'"),
        ({"stddev": 0.2}, r"views\.noise\.layer\.stddev was 0\.1 and is 0\.2"),
        ({"task_weight": 0.5}, r"task_weight was 1\.0 and is 0\.5"),
        ({"rate": 0.25}, r"optimizer\.learning_rate was 0\.1\d* and is 0\.25"),
    ],
)
def test_other_settings_are_refused_by_name(tmp_path, changed, message):
    resumed(tmp_path, KD())
    with pytest.raises(ValueError, match=f"`Resume`.*{tmp_path.name}.*{message}"):
        resumed(tmp_path, **{"loss": KD(), "epochs": 2, **changed})


class Unsaved(KD):
    """Its `factor` is no attribute, so that it has no configuration."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self._factor = factor

    def call(self, student_logits, teacher_logits, labels=None):
        return self._factor * super().call(student_logits, teacher_logits)


@pytest.mark.single_backend
def test_numbers_of_a_loss_without_a_configuration_are_compared(tmp_path):
    resumed(tmp_path, Unsaved(1.0))
    with pytest.raises(ValueError, match=r"kd\.weight was 1\.0 and is 7\.0"):
        resumed(tmp_path, Unsaved(1.0, weight=7.0), epochs=2)
    hot = Unsaved(1.0, temperature=9.0)
    with pytest.raises(ValueError, match=r"temperature was 4\.0 and is 9\.0"):
        resumed(tmp_path, hot, epochs=2)
    resumed(tmp_path, Unsaved(1.0), epochs=2)


def test_what_changes_in_a_run_is_no_other_setting(tmp_path):
    def moving():
        return [
            callbacks.HyperparameterSchedule("kd.weight", lambda epoch: 0.5**epoch),
            callbacks.HyperparameterSchedule("task_weight", lambda epoch: 2.0),
            keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2),
        ]

    for epochs in (2, 3, 4):
        d = resumed(tmp_path, KD(), epochs=epochs, callbacks=moving())
    assert (d.distillation_losses["kd"].weight, d.task_weight) == (0.125, 2.0)
    assert float(d.optimizer.learning_rate) == pytest.approx(0.1 / 16)
    # The same model, as it is now, goes on.
    resume = Resume(tmp_path)
    d.fit(X, Y, epochs=5, initial_epoch=4, callbacks=[*moving(), resume], verbose=0)
    resumed(tmp_path, KD(), epochs=6, callbacks=moving())


@pytest.mark.single_backend
def test_a_file_without_settings_is_accepted(tmp_path):
    resumed(tmp_path, KD())
    with h5py.File(tmp_path / "1.weights.h5", "a") as file:
        del file["settings"]
    resumed(tmp_path, KD(weight=0.5), epochs=2)


@pytest.mark.single_backend
@pytest.mark.filterwarnings("error:.*lambda")
def test_a_lambda_in_another_line_is_no_other_setting(tmp_path):
    resumed(tmp_path, KD(temperatures.Scheduled(lambda epoch: 4.0 + epoch)))
    again = KD(temperatures.Scheduled(lambda epoch: 4.0 + epoch))
    resumed(tmp_path, again, epochs=2)


class Scores(keras.callbacks.Callback):
    """Logs a score that is at its best in epoch 2, and stops where it is told to."""

    def __init__(self, end):
        super().__init__()
        self.end = end

    def on_epoch_end(self, epoch, logs=None):
        logs["score"] = [0.5, 0.8, 0.7, 0.6, 0.6, 0.6][epoch]

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.end:
            raise SystemError("power cut")


def plateau_run(folder, end=None):
    keras.utils.set_random_seed(1)
    d = distiller({"kd": KD()}, keras.optimizers.SGD(0.1))
    resume, options = Resume(folder / "state"), {"monitor": "score", "mode": "max"}
    best = callbacks.StudentCheckpoint(
        folder / "best.keras", save_best_only=True, **options
    )
    plateau = keras.callbacks.ReduceLROnPlateau(patience=2, **options)
    early = keras.callbacks.EarlyStopping(
        patience=4, restore_best_weights=True, **options
    )
    d.fit(
        X,
        Y,
        epochs=6,
        shuffle=False,
        initial_epoch=resume.epoch,
        # Wherever it is in the list.
        callbacks=[resume, Scores(end), plateau, best, early],
        verbose=0,
    )
    return d, (plateau, best, early)


def test_other_callbacks_go_on_too(tmp_path):
    expected, others = plateau_run(tmp_path / "unbroken")
    for end in (3, 4):
        with pytest.raises(SystemError):
            plateau_run(tmp_path / "broken", end)
    d, resumed_others = plateau_run(tmp_path / "broken")
    assert same(state(d), state(expected))
    assert float(d.optimizer.learning_rate) < 0.1
    for one, two in zip(resumed_others, others, strict=True):
        names = "wait", "best", "best_epoch", "stopped_epoch", "min_delta"
        for name in names:
            assert getattr(one, name, None) == getattr(two, name, None), name
    best, other_best = (
        keras.saving.load_model(tmp_path / name / "best.keras")
        for name in ("unbroken", "broken")
    )
    assert same(best, other_best)


@pytest.mark.single_backend
def test_arguments_and_what_a_run_left_alone_are_the_new_callbacks_own(tmp_path):
    class Own(keras.callbacks.Callback):
        def __init__(self, patience, path):
            super().__init__()
            self.patience, self.path = patience, path
            self.label, self.count, self.names = f"{path}!", 0, [path]

        def on_epoch_end(self, epoch, logs=None):
            self.count += 1
            self.patience += 1

    resumed(tmp_path, KD(), callbacks=[Own(1, "a")])
    second = Own(5, "b")
    resumed(tmp_path, KD(), epochs=2, callbacks=[second])
    assert (second.patience, second.path, second.label) == (6, "b", "b!")
    assert second.count == 2 and second.names == ["b"]


class Evaluation(PeriodicEvaluation):
    """Notes the epochs after which it is due."""

    def __init__(self, epochs):
        super().__init__(2, "", False)
        self._epochs = epochs

    def add_results(self, logs):
        self._epochs.append(self._epoch)

    def on_epoch_end(self, epoch, logs=None):
        self._epoch = epoch
        super().on_epoch_end(epoch, logs)


@pytest.mark.single_backend
def test_periodic_evaluations_are_due_as_in_an_unbroken_run(tmp_path):
    expected, found = [], []
    run(tmp_path / "unbroken", Evaluation(expected), epochs=6)
    with pytest.raises(SystemError):
        run(tmp_path / "broken", Evaluation(found), Crash(1, 1), epochs=6)
    run(tmp_path / "broken", Evaluation(found), epochs=6)
    assert expected == found == [0, 2, 4, 5]


def test_a_csv_log_of_a_resumed_run_is_that_of_an_unbroken_one(tmp_path):
    def log(folder, *crash):
        robust = callbacks.RobustAccuracy(
            X[:8], Y[:8], 0.1, frequency=3, name="robust", steps=1, seed=0, range=None
        )
        csv = keras.callbacks.CSVLogger(tmp_path / f"{folder}.csv", append=True)
        run(tmp_path / folder, robust, csv, *crash, epochs=6)

    log("unbroken")
    # The first epoch after it is not evaluated.
    with pytest.raises(SystemError):
        log("broken", Crash(2, 1))
    log("broken")
    expected, found = (
        (tmp_path / f"{name}.csv").read_text().splitlines()
        for name in ("unbroken", "broken")
    )
    assert found == expected and len(expected) == 7
    column = expected[0].split(",").index("robust")
    is_missing = [line.split(",")[column] == "NA" for line in expected[1:]]
    assert is_missing == [False, True, True, False, True, False]


def averaged(folder, epochs, **options):
    keras.utils.set_random_seed(1)
    d = distiller({"kd": KD()}, keras.optimizers.Adam(0.01, use_ema=True))
    resume, swap = Resume(folder), keras.callbacks.SwapEMAWeights(**options)
    fit = {"initial_epoch": resume.epoch, "shuffle": False, "verbose": 0}
    fit |= {"validation_data": (X, Y), "callbacks": [swap, resume]}
    logs = d.fit(X, Y, 8, epochs, **fit).history["val_loss"]
    return state(d), logs


def test_averages_that_are_swapped_in_for_validation_go_on(tmp_path):
    expected, logs = averaged(tmp_path / "unbroken", 4)
    _, first = averaged(tmp_path / "broken", 2)
    found, second = averaged(tmp_path / "broken", 4)
    assert same(found, expected) and first + second == logs


@pytest.mark.invariant(number=10)
def test_averages_that_stay_in_the_model_between_epochs_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`Resume`.*Use `SwapEMA.*on_epoch=False\)`"):
        averaged(tmp_path, 2, swap_on_epoch=True)
    assert not list(tmp_path.iterdir())
