"""Training from stored outputs is training from the teacher."""

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller, diagnose, views
from keras_dtkd.losses import CKD, DTKD, KD
from keras_dtkd.teachers import (
    Ensemble,
    ModelTeacher,
    Stored,
    Teacher,
    resolve_teacher,
    store,
    with_sample_ids,
)
from keras_dtkd.teachers.sample_ids import has_sample_ids, split_sample_ids
from keras_dtkd.teachers.stored import OUTPUTS_FILE
from tests.tiny_models import close, data, numbers, same, student, teacher

X, Y = data(64)
OPTIONS = {"batch_size": 16, "epochs": 2, "shuffle": False, "verbose": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher_outputs")
    store(teacher(), X, path, verbose=0)
    return path


class Batches(keras.utils.PyDataset):
    """Batches of 16, without sample ids."""

    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x) // 16

    def __getitem__(self, i):
        return self.x[16 * i : 16 * i + 16], self.y[16 * i : 16 * i + 16]


def trained(given, x=X, y=Y, loss=KD, **options):
    small = student()
    distiller = Distiller(given, small, loss())
    distiller.fit(x, y, **{**OPTIONS, **options})
    return small


def test_it_is_a_teacher(folder):
    assert isinstance(Stored(folder), Teacher)
    assert isinstance(resolve_teacher(folder), Stored) and isinstance(
        resolve_teacher(str(folder)), Stored
    )


@pytest.mark.parametrize("loss", [KD, DTKD])
@pytest.mark.graph
def test_it_trains_as_the_teacher_does(folder, loss):
    assert close(trained(folder, loss=loss), trained(teacher(), loss=loss))


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_probabilities_are_recognized(tmp_path, head):
    large = teacher(head=head)
    stored = store(large, X, tmp_path, verbose=0)
    smalls = []
    for given in (large, stored):
        smalls.append(student(head=head))
        y = Y if head == "softmax" else np.eye(4)[Y]
        Distiller(given, smalls[-1], KD()).fit(X, y, **OPTIONS)
    assert close(*smalls)


def test_sample_ids_decide_and_not_the_place_in_the_data(folder):
    order = np.random.default_rng(0).permutation(64)[:48]
    x, y = X[order], Y[order]
    assert close(
        trained(folder, with_sample_ids(x, order), y), trained(teacher(), x, y)
    )


def test_sample_ids_are_shuffled_with_the_samples(folder):
    keras.utils.set_random_seed(0)
    first = trained(folder, shuffle=True)
    keras.utils.set_random_seed(0)
    assert close(first, trained(teacher(), shuffle=True))


def test_sample_weight_and_validation_split_work(folder):
    options = {
        "sample_weight": np.linspace(0, 2, 64),
        "validation_split": 0.25,
    }
    assert close(trained(folder, **options), trained(teacher(), **options))


def test_batches_with_sample_ids(folder):
    def batches(has_ids):
        for s in range(0, 64, 16):
            x = (
                with_sample_ids(X[s : s + 16], np.arange(s, s + 16))
                if has_ids
                else X[s : s + 16]
            )
            yield x, Y[s : s + 16]

    one = trained(folder, batches(True), None, batch_size=None, epochs=1, shuffle=True)
    other = trained(
        teacher(), batches(False), None, batch_size=None, epochs=1, shuffle=True
    )
    assert close(one, other)


def test_the_student_is_called_with_its_inputs_alone(folder):
    small = student()
    distiller = Distiller(folder, small, KD())
    distiller.fit(X, Y, **OPTIONS)
    expected = small.predict(X, verbose=0)
    np.testing.assert_allclose(distiller.predict(X, verbose=0), expected, atol=1e-6)
    assert distiller.evaluate(X, Y, verbose=0, return_dict=True)["accuracy"] >= 0
    seen = keras.ops.convert_to_numpy(distiller(with_sample_ids(X)))
    np.testing.assert_allclose(seen, expected, atol=1e-5)


def test_train_on_batch_needs_sample_ids(folder):
    small, other = student(), student()
    ids = np.arange(5, 21)
    Distiller(folder, small, KD()).train_on_batch(with_sample_ids(X[ids], ids), Y[ids])
    Distiller(teacher(), other, KD()).train_on_batch(X[ids], Y[ids])
    assert close(small, other)
    with pytest.raises(ValueError, match="16 inputs have no `sample_ids`"):
        Distiller(folder, student(), KD()).train_on_batch(X[ids], Y[ids])


def test_beside_a_live_teacher_in_an_ensemble(folder):
    large = teacher(scale=1.0)
    both = Ensemble([Stored(folder), large], [0.5, 0.5])
    assert close(trained(both), trained([teacher(), large]))


def test_evaluate_distillation_needs_sample_ids(folder):
    distiller = Distiller(folder, student(), KD(), evaluate_distillation=True)
    before = numbers(distiller.student)
    for wrong in ((X[:16], Y[:16]), Batches(X, Y)):
        with pytest.raises(ValueError, match="batches have no `sample_ids`"):
            distiller.fit(X, Y, validation_data=wrong, **OPTIONS)
    assert same(distiller.student, before)
    data = (with_sample_ids(X[16:32], np.arange(16, 32)), Y[16:32])
    history = distiller.fit(X, Y, validation_data=data, **OPTIONS).history
    assert history["val_agreement"][0] >= 0


@pytest.mark.single_backend
def test_diagnose_measures_it_as_any_teacher(folder):
    report = diagnose(folder, student(), (X, Y), verbose=0)
    live = diagnose(teacher(), student(), (X, Y), verbose=0)
    assert report["teacher"]["accuracy"] == live["teacher"]["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X[:10], Y[:10], "64 samples, and 10 inputs have no `sample_ids`"),
        (with_sample_ids(X, np.arange(64) + 1), Y, "from 1 to 64"),
        (with_sample_ids(X, np.arange(64) - 1), Y, "from -1 to 62"),
        ([(X[:8], Y[:8])], None, "Let each batch be"),
    ],
)
def test_wrong_or_missing_sample_ids_are_refused(folder, x, y, message):
    if isinstance(x, list):
        x = iter(x)
    with pytest.raises(ValueError, match=message):
        Distiller(folder, student(), KD()).fit(x, y, verbose=0)


def test_one_wrong_sample_id_among_many_is_found(folder):
    ids = np.arange(64)
    ids[33] = 64
    with pytest.raises(ValueError, match="for 64 samples.*from 0 to 64"):
        Distiller(folder, student(), KD()).fit(with_sample_ids(X, ids), Y, verbose=0)


def test_sample_ids_out_of_range_have_no_outputs(folder):
    stored = Stored(folder)
    below = keras.ops.convert_to_numpy(stored.outputs(None, np.array([-1, 5])))
    assert np.isnan(below[0]).all()
    np.testing.assert_array_equal(below[1], np.load(folder / OUTPUTS_FILE)[5])
    try:
        beyond = keras.ops.convert_to_numpy(stored.outputs(None, np.array([5, 64])))
    except Exception as error:  # noqa: BLE001 - each backend has its own
        assert type(error).__name__ in ("IndexError", "InvalidArgumentError")
    else:
        assert np.isnan(beyond[1]).all()


def test_samples_are_counted_in_an_ensemble_too(folder):
    both = Ensemble([Stored(folder), Stored(np.zeros((48, 4), "float32"))])
    assert both.num_samples == 48
    assert Ensemble([teacher(), teacher()]).num_samples is None
    with pytest.raises(ValueError, match="for 48 samples, and 64 inputs"):
        Distiller(both, student(), KD()).fit(X, Y, verbose=0)
    ids = np.arange(48)
    ids[20] = 48
    with pytest.raises(ValueError, match="for 48 samples.*from 0 to 48"):
        Distiller(both, student(), KD()).fit(
            with_sample_ids(X[:48], ids), Y[:48], verbose=0
        )


def test_data_may_have_an_attribute_of_that_name(folder):
    class Named(keras.utils.PyDataset):
        num_samples = 1000
        sample_ids = None

        def __len__(self):
            return 4

        def __getitem__(self, i):
            part = np.arange(16 * i, 16 * i + 16)
            return with_sample_ids(X[part], part), Y[part]

    Distiller(folder, student(), KD()).fit(Named(), verbose=0)


def test_a_view_is_refused(folder):
    loss = KD(view="mixup")
    distiller = Distiller(folder, student(), loss, views={"mixup": views.Mixup()})
    with pytest.raises(
        ValueError, match="'mixup', for which the teacher has no stored"
    ):
        distiller.fit(X, Y, verbose=0)


def test_misplaced_outputs_are_noticed(folder):
    wrong = Stored(np.roll(np.load(folder / OUTPUTS_FILE), 1, axis=0))
    with pytest.warns(UserWarning, match="chance"):
        Distiller(wrong, student(), KD()).fit(X, Y, verbose=0)


def test_what_is_no_folder_of_stored_outputs_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        Stored(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no complete set"):
        Stored(tmp_path)
    for wrong in (np.zeros(4), np.zeros((4, 2), "int32"), np.zeros((0, 2))):
        with pytest.raises(ValueError, match="floats"):
            Stored(wrong)
    with pytest.raises(ValueError, match="batch has no `sample_ids`"):
        Stored(np.zeros((4, 2), "float32")).outputs(X)


def test_with_sample_ids_checks_their_number():
    x = with_sample_ids({"a": X, "b": X})
    assert (
        has_sample_ids(x)
        and not has_sample_ids(X)
        and not has_sample_ids({"inputs": X})
    )
    np.testing.assert_array_equal(split_sample_ids(x)[1], np.arange(64))
    for wrong in (np.arange(3), np.arange(64.0), np.zeros((64, 1), int)):
        with pytest.raises(ValueError, match="as many integers"):
            with_sample_ids(X, wrong)


def test_stored_outputs_can_be_calibrated(folder):
    stored = Stored(folder)
    target = CKD().optimal_logits(stored.outputs(None, np.arange(64)), Y)
    expected = CKD().optimal_logits(
        keras.ops.convert_to_tensor(ModelTeacher(teacher()).outputs(X)), Y
    )
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(target),
        keras.ops.convert_to_numpy(expected),
        atol=1e-4,
    )
