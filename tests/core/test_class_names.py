"""Names of classes, checked and shortened."""

import pytest

from keras_dtkd.core.class_names import check_class_names, shorten_names

pytestmark = pytest.mark.single_backend


def test_numbers_are_the_default_and_all_names_are_texts():
    assert check_class_names("f", None, 3) == ["0", "1", "2"]
    assert check_class_names("f", [7, "a"], 2) == ["7", "a"]


@pytest.mark.invariant(number=10)
def test_another_number_of_names_is_refused():
    with pytest.raises(ValueError, match="`f`: there are 2 `class_names` and 3"):
        check_class_names("f", "ab", 3)


def test_short_names_stay_and_long_ones_can_be_distinguished():
    names = ["cat", "great white shark", "great white heron", "lesser panda"]
    short = shorten_names(names, 10)
    assert short == ["cat", "1 great w…", "2 great w…", "lesser pa…"]
    assert all(len(name) <= 10 for name in short)
