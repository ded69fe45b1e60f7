"""What must always hold, by number, and that each has its tests."""

import re
from pathlib import Path

import pytest

INVARIANTS = {
    1: "A step is one pass of the student and one of the teacher; evaluate has none.",
    2: "Equal models: no divergence, no gradient. A shift of logits changes nothing.",
    3: "Weights of 0 teach nothing, of 2 count twice; masked positions count nowhere.",
    4: "The same global batch gives the same weights on any number of devices.",
    5: "Every backend gives the reference's values and gradients.",
    6: "Values and gradients are finite, whatever the logits and their precision.",
    7: "A number changed while `fit` runs holds from the next epoch on.",
    8: "Saved, loaded and given its teacher again, a run goes on bit for bit.",
    9: "The teacher stays as it is, in every bit, whatever happens.",
    10: "A wrong use is one clear error, before the first step.",
}


@pytest.mark.parametrize("number", INVARIANTS)
def test_each_invariant_has_tests_by_its_number(number):
    marked = re.compile(rf"pytest\.mark\.invariant\(number={number}\)")
    files = Path(__file__).parent.rglob("test_*.py")
    assert any(marked.search(file.read_text()) for file in files), INVARIANTS[number]
