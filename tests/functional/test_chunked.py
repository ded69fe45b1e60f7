"""The divergence from hidden states equals the plain form, value and gradients."""

import keras
import numpy as np
import pytest

from keras_dtkd.functional.chunked import chunked_cross_entropy, chunked_divergence
from tests.gradients import differentiate
from tests.tensors import tensor

pytestmark = pytest.mark.invariant(number=5)
RNG = np.random.default_rng(0)
TOKENS, CLASSES = (3, 7), 50
HIDDEN = {
    "student": RNG.normal(size=(*TOKENS, 6)),
    "teacher": RNG.normal(size=(*TOKENS, 9)),
}
EMBEDDING = {
    "student": RNG.normal(size=(CLASSES, 6)),
    "teacher": RNG.normal(size=(CLASSES, 9)),
}
WEIGHTS = RNG.uniform(size=TOKENS) * (RNG.uniform(size=TOKENS) > 0.3)
FORMS = [
    *(("kl", "gkd", 1.0), ("kl", "gkd", 3.0), ("reverse_kl", "gkd", 1.0)),
    *(("jsd", "gkd", 3.0), (0.1, "gkd", 1.0), (0.9, "gkd", 3.0)),
    *((0.1, "continuous", 3.0), (0.9, "continuous", 1.0)),
]
BETAS = {"kl": 0.0, "reverse_kl": 1.0, "jsd": 0.5}


def reference(hidden, embedding, weights, divergence, convention, temperature):
    """Of the student's numbers, in float64 and from all logits."""

    def log_softmax(z):
        z = z - z.max(-1, keepdims=True)
        return z - np.log(np.exp(z).sum(-1, keepdims=True))

    log_p = log_softmax(HIDDEN["teacher"] @ EMBEDDING["teacher"].T / temperature)
    log_q = log_softmax(hidden @ embedding.T / temperature)
    p, q = np.exp(log_p), np.exp(log_q)
    beta = BETAS.get(divergence, divergence)
    if beta in (0, 1):
        values = (p * (log_p - log_q) if beta == 0 else q * (log_q - log_p)).sum(-1)
    else:
        log_m = np.log(beta * p + (1 - beta) * q)
        share = beta if convention == "gkd" else 1 - beta
        values = share * (p * (log_p - log_m)).sum(-1)
        values = values + (1 - share) * (q * (log_q - log_m)).sum(-1)
    return (weights * values).sum() / weights.sum()


def compute(divergence, convention, weights=WEIGHTS, temperature=1.0, chunk_size=4):
    """Value, gradient by the hidden states, gradient by the embedding."""
    teacher = [tensor(part["teacher"]) for part in (HIDDEN, EMBEDDING)]
    weights = None if weights is None else tensor(weights)

    def mean(hidden, embedding):
        options = weights, divergence, temperature, chunk_size, convention
        return chunked_divergence(hidden, embedding, *teacher, *options)

    hidden, embedding = (tensor(part["student"]) for part in (HIDDEN, EMBEDDING))
    value, by_hidden = differentiate(mean)(hidden, embedding)
    _, by_embedding = differentiate(lambda e, h: mean(h, e))(embedding, hidden)
    return float(value), by_hidden, by_embedding


@pytest.mark.parametrize(("divergence", "convention", "temperature"), FORMS)
def test_equals_the_formula(divergence, convention, temperature):
    form = divergence, convention, temperature
    value, *gradients = compute(divergence, convention, temperature=temperature)
    sides = HIDDEN["student"], EMBEDDING["student"]
    assert value == pytest.approx(reference(*sides, WEIGHTS, *form), abs=1e-5)
    for place, gradient in enumerate(gradients):
        size = np.linalg.norm(gradient)
        direction = gradient / size + 0.3 * RNG.normal(size=gradient.shape)
        ends = []
        for step in (1e-5, -1e-5):
            moved = list(sides)
            moved[place] = moved[place] + step * direction
            ends.append(reference(*moved, WEIGHTS, *form))
        slope = (ends[0] - ends[1]) / 2e-5
        assert (gradient * direction).sum() == pytest.approx(
            slope, abs=1e-5 * max(1, size)
        )


@pytest.mark.parametrize("chunk_size", [1, 21, 1000])
def test_the_size_of_a_chunk_changes_nothing(chunk_size):
    expected = compute("kl", "gkd", chunk_size=7)
    for one, other in zip(
        compute("kl", "gkd", chunk_size=chunk_size), expected, strict=True
    ):
        assert np.abs(one - other).max() < 2e-6


def test_without_weights_all_tokens_count_once():
    for one, other in zip(
        compute("jsd", "gkd", None), compute("jsd", "gkd", np.ones(TOKENS)), strict=True
    ):
        assert np.array_equal(one, other)


@pytest.mark.invariant(number=3)
def test_weights_of_zero_give_no_loss_and_no_gradient():
    for result in compute("kl", "gkd", np.zeros(TOKENS)):
        assert (np.asarray(result) == 0).all()


@pytest.mark.invariant(number=2)
@pytest.mark.parametrize("divergence", ["kl", "reverse_kl", "jsd", 0.1])
def test_equal_models_have_no_loss_and_no_gradient(divergence):
    teacher = [tensor(part["teacher"]) for part in (HIDDEN, EMBEDDING)]
    value, gradient = differentiate(
        lambda h: chunked_divergence(h, teacher[1], *teacher, divergence=divergence)
    )(teacher[0])
    assert abs(value) < 1e-6 and np.abs(gradient).max() < 1e-6


@pytest.mark.invariant(number=6)
@pytest.mark.parametrize("divergence", ["kl", "reverse_kl", "jsd"])
def test_all_is_finite_in_half_precision_at_extremes(divergence):
    parts = [100 * HIDDEN["student"], EMBEDDING["student"]]
    parts += [-100 * HIDDEN["teacher"], EMBEDDING["teacher"]]
    hidden, *others = (tensor(part, "bfloat16") for part in parts)
    value, gradient = differentiate(
        lambda h: chunked_divergence(h, *others, divergence=divergence, chunk_size=4)
    )(hidden)
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_its_gradient_is_scaled_by_what_is_made_of_it():
    teacher = [tensor(part["teacher"]) for part in (HIDDEN, EMBEDDING)]
    embedding = tensor(EMBEDDING["student"])
    plain, thrice = (
        differentiate(lambda h, f=f: f * chunked_divergence(h, embedding, *teacher))
        for f in (1.0, 3.0)
    )
    hidden = tensor(HIDDEN["student"])
    assert np.allclose(3 * plain(hidden)[1], thrice(hidden)[1], rtol=1e-5, atol=1e-8)


@pytest.mark.invariant(number=10)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"divergence": "hellinger"}, "`divergence` must be one of 'kl'"),
        ({"divergence": 1.5}, "a β from 0 to 1"),
        ({"chunk_size": 0}, "`chunk_size` must be at least 1"),
        ({"convention": "trl", "divergence": "jsd"}, "`convention`"),
        ({"teacher_embedding": np.ones((49, 9))}, "50 rows of the student's, 49"),
    ],
)
def test_a_wrong_argument_is_refused(options, message):
    arrays = {
        f"{side}_{name}": part[side]
        for name, part in (("hidden", HIDDEN), ("embedding", EMBEDDING))
        for side in ("student", "teacher")
    }
    arrays = {n: tensor(a, "float32") for n, a in arrays.items()} | {
        n: tensor(v) if isinstance(v, np.ndarray) else v for n, v in options.items()
    }
    with pytest.raises(ValueError, match=message):
        chunked_divergence(**arrays)


def test_hidden_states_in_half_precision_have_the_gradient_of_float32():
    # Of so many tokens that a share of the mean is below the smallest half.
    rng, count, grads = np.random.default_rng(1), 4000, []
    hidden = rng.normal(size=(count, 6)).astype("float16")
    shapes = (CLASSES, 6), (count, 9), (CLASSES, 9)
    embedding, *teacher = (tensor(0.03 * rng.normal(size=shape)) for shape in shapes)
    for dtype in ("float16", "float32"):

        def mean(h, dtype=dtype):
            h = keras.ops.cast(h, dtype)
            return 2.0**10 * chunked_divergence(h, embedding, *teacher, chunk_size=500)

        grads.append(differentiate(mean)(tensor(hidden))[1])
    error = np.linalg.norm(grads[0] - grads[1]) / np.linalg.norm(grads[1])
    assert error < 1e-2


@pytest.mark.single_backend
@pytest.mark.parametrize(
    ("name", "shape"), [("weights", (3,)), ("weights", (3, 1)), ("teacher", (3, 8, 9))]
)
def test_tokens_that_do_not_fit_are_refused(name, shape):
    hidden, embedding = (tensor(part["student"]) for part in (HIDDEN, EMBEDDING))
    teacher = [tensor(part["teacher"]) for part in (HIDDEN, EMBEDDING)]
    options = {}
    if name == "weights":
        options[name] = np.ones(shape)
    else:
        teacher[0] = np.ones(shape, "float32")
    with pytest.raises(ValueError, match=f"`{name}.*one for each token"):
        chunked_divergence(hidden, embedding, *teacher, **options)
    with pytest.raises(ValueError, match="`labels` must have one for each token"):
        chunked_cross_entropy(hidden, embedding, np.zeros((3, 6), int))
