"""Students cut from KerasHub teachers."""

import keras
import numpy as np
import pytest

from keras_dtkd import models, students
from keras_dtkd.core.layer_tree import find_layer
from tests.tensors import numpy
from tests.tiny_models import everything, numbers

pytestmark = pytest.mark.single_backend
hub = pytest.importorskip("keras_hub", reason="KerasHub is not installed.")
IDS = np.random.default_rng(0).integers(1, 512, (4, 6)).astype("int32")
X = {"token_ids": IDS, "padding_mask": np.ones_like(IDS)}


def llama(num_layers=4):
    keras.utils.set_random_seed(0)
    return models.llama_tiny(num_layers, 8, 16, 2, 1)


def bert(num_layers, preprocessor=None):
    keras.utils.set_random_seed(0)
    backbone = hub.models.BertBackbone(
        vocabulary_size=20,
        num_layers=num_layers,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=8,
        max_sequence_length=8,
    )
    options = {"num_classes": 3, "preprocessor": preprocessor}
    return hub.models.BertTextClassifier(backbone, **options)


def make_identity(layer):
    """A Llama layer that changes nothing: what it adds is 0."""
    for variable in layer.weights:
        if "attention_output" in variable.path or "output_dense" in variable.path:
            variable.assign(0 * numpy(variable))


def test_without_layers_that_do_nothing_the_outputs_are_the_teachers():
    teacher = llama()
    for number in (1, 3):
        make_identity(teacher.backbone.transformer_layers[number])
    before = everything(teacher)
    for options in ({}, {"every": 2}, {"layers": [0, 2]}):
        student = students.from_layers(teacher, **options)
        assert type(student) is type(teacher)
        assert len(student.backbone.transformer_layers) == 2
        np.testing.assert_allclose(numpy(student(X)), numpy(teacher(X)), atol=1e-6)
    assert everything(teacher) == before
    # Nothing is shared.
    student.set_weights([0 * weight for weight in student.get_weights()])
    assert everything(teacher) == before


def test_a_cut_student_begins_closer_to_its_teacher_than_a_random_one():
    teacher = llama()
    keras.utils.set_random_seed(1)
    others = students.from_layers(teacher, every=2), llama(2)
    keras.utils.set_random_seed(2)
    noise = [np.random.normal(0, 0.02, w.shape) for w in numbers(others[1])]
    others[1].set_weights(noise)
    gaps = [np.abs(numpy(other(X)) - numpy(teacher(X))).mean() for other in others]
    assert gaps[0] < 0.8 * gaps[1]


def test_a_task_keeps_its_own_layers():
    teacher = bert(3)
    backbone = teacher.backbone
    student = students.from_layers(teacher, layers=[2])
    for name in ("logits", "pooled_dense", "token_embedding"):
        pair = (numbers(find_layer(model, name)) for model in (teacher, student))
        for one, two in zip(*pair, strict=True):
            np.testing.assert_array_equal(one, two)
    pair = backbone.transformer_layers[2], student.backbone.transformer_layers[0]
    for one, two in zip(*map(numbers, pair), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("teacher", "options", "match"),
    [
        (lambda: keras.Sequential(name="plain"), {}, "'plain' cannot be cut"),
        (llama, {"layers": [4]}, "of 4 layers"),
        (llama, {"layers": [2, 0]}, "in their order"),
        (llama, {"layers": []}, "some are kept"),
        (llama, {"every": 1}, "some are kept"),
        (llama, {"every": 0}, "`every`"),
    ],
)
def test_what_cannot_be_cut_is_one_error(teacher, options, match):
    with pytest.raises(ValueError, match=match):
        students.from_layers(teacher(), **options)


def test_a_task_has_its_teachers_preprocessor():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog"]
    tokenizer = hub.tokenizers.BertTokenizer(vocabulary=words)
    teacher = bert(2, hub.models.BertTextClassifierPreprocessor(tokenizer, 8))
    student = students.from_layers(teacher)
    assert student.predict(["a dog"], verbose=0).shape == (1, 3)


@pytest.mark.invariant(number=10)
def test_layers_that_depend_on_their_place_and_adapters_are_refused():
    backbone = hub.models.GemmaBackbone(
        vocabulary_size=20,
        num_layers=4,
        num_query_heads=2,
        num_key_value_heads=1,
        hidden_dim=8,
        intermediate_dim=16,
        head_dim=4,
        use_sliding_window_attention=True,
        sliding_window_size=2,
    )
    with pytest.raises(ValueError, match="depends on its place"):
        students.from_layers(backbone)
    student = students.from_layers(backbone, layers=[0, 1])
    assert len(student.transformer_layers) == 2
    backbone.enable_lora(2)
    with pytest.raises(ValueError, match="the teacher has LoRA"):
        students.from_layers(backbone)


def test_embeddings_that_are_the_output_layer_too_stay_so():
    keras.utils.set_random_seed(0)
    teacher = models.llama_tiny(4, 8, 16, 2, 1, tie_word_embeddings=True)
    for number in (1, 3):
        make_identity(teacher.backbone.transformer_layers[number])
    student = students.from_layers(teacher)
    assert student.backbone.token_embedding.tie_weights
    np.testing.assert_allclose(numpy(student(X)), numpy(teacher(X)), atol=1e-6)
