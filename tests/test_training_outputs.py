"""Models whose outputs in training are others than in inference, as DeiT's."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import Distiller
from keras_dtkd.losses import KD, LogitMSE
from tests.tiny_models import CLASSES, FEATURES, data, numbers, teacher

X, Y = data(32)


class TwoHeads(keras.Model):
    """Two heads in training, their mean in inference."""

    kind = "tuple"

    def __init__(self, **kwargs):
        super().__init__(name="two_heads")

        def dense(seed, units, name):
            start = keras.initializers.GlorotUniform(seed)
            return keras.layers.Dense(units, kernel_initializer=start, name=name)

        self.trunk = dense(0, 8, "trunk")
        self.heads = [dense(1, CLASSES, "class"), dense(2, CLASSES, "distilled")]

    def call(self, inputs, training=False):
        hidden = self.trunk(inputs)
        first, second = (head(hidden) for head in self.heads)
        if not training:
            return (first + second) / 2
        if self.kind == "dict":
            return {"labels": first, "by_teacher": second}
        return first, second


class TwoHeadsByName(TwoHeads):
    kind = "dict"


STUDENTS = [(TwoHeads, 1), (TwoHeadsByName, "by_teacher")]


@pytest.mark.parametrize(("student_class", "output"), STUDENTS)
@pytest.mark.graph
def test_a_head_for_labels_and_one_for_the_teacher_train(student_class, output):
    small = student_class()
    d = Distiller(teacher(), small, KD(output=output))
    logs = d.fit(
        X, Y, batch_size=8, epochs=3, validation_data=(X, Y), verbose=0
    ).history
    assert logs["loss"][-1] < logs["loss"][0]
    assert {"task_loss", "kd", "accuracy", "val_loss", "val_accuracy"} <= set(logs)
    mean = ops.convert_to_numpy(small(X)).argmax(-1)
    results = d.evaluate(X, Y, verbose=0, return_dict=True)
    assert results["accuracy"] == pytest.approx(np.mean(mean == Y), abs=1e-6)
    assert d.predict(X, verbose=0).shape == (len(X), CLASSES)


def test_labels_reach_the_first_head_and_the_teacher_the_named_one():
    def moved(loss, task_weight):
        small = TwoHeads()
        small.build((None, FEATURES))
        small(X[:1])
        before = dict(zip([v.path for v in small.weights], numbers(small), strict=True))
        d = Distiller(teacher(), small, loss, task_weight=task_weight)
        d.fit(X, Y, verbose=0)
        after = dict(zip([v.path for v in small.weights], numbers(small), strict=True))
        return {
            p for p in after if p.endswith("kernel") and (after[p] != before[p]).any()
        }

    of_labels = moved(KD(output=1, weight=0.0), 1.0)
    of_teacher = moved(KD(output=1), 0.0)
    assert any("class" in p for p in of_labels)
    assert not any("distilled" in p for p in of_labels)
    assert any("distilled" in p for p in of_teacher)
    assert not any("class" in p for p in of_teacher)


def test_the_distillers_output_may_name_the_head():
    values = []
    for options in ({"output": 1}, {}):
        loss = KD(output=None if options else 1)
        d = Distiller(teacher(), TwoHeads(), loss, **options)
        values.append(d.fit(X, Y, shuffle=False, verbose=0).history)
    assert values[0] == values[1]


def test_validation_with_the_teacher_compares_the_mean():
    small = TwoHeads()
    d = Distiller(teacher(), small, LogitMSE(output=1), evaluate_distillation=True)
    d.fit(X, Y, verbose=0)
    results = d.evaluate(X, Y, verbose=0, return_dict=True)
    alone = Distiller(teacher(), keras.Sequential([keras.Input((FEATURES,)), small]))
    alone.distillation_losses = {"logit_mse": LogitMSE()}
    expected = alone.compute_losses(ops.convert_to_tensor(X))["logit_mse"]
    assert results["logit_mse"] == pytest.approx(float(expected), rel=1e-4)


def test_a_head_must_be_chosen():
    with pytest.raises(ValueError, match="student has several outputs"):
        Distiller(teacher(), TwoHeads(), KD()).fit(X, Y)


def test_labels_and_metrics_belong_to_the_same_head_of_a_dict():
    small = TwoHeadsByName()
    d = Distiller(teacher(), small, KD(output="by_teacher", weight=0.0))
    d.compile(
        keras.optimizers.SGD(0.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    logs = d.fit(X, Y, batch_size=32, shuffle=False, verbose=0).history
    first = ops.convert_to_numpy(small(X, training=True)["labels"])
    assert logs["accuracy"][0] == pytest.approx(np.mean(first.argmax(-1) == Y))


class ThreeHeads(TwoHeads):
    def call(self, inputs, training=False):
        first, second = (head(self.trunk(inputs)) for head in self.heads)
        both = (first + second) / 2
        return {"a": first, "b": second, "c": both} if training else both


def test_labels_that_could_belong_to_several_heads_are_refused():
    with pytest.raises(ValueError, match="labels could belong to several"):
        Distiller(teacher(), ThreeHeads(), KD(output="b")).fit(X, Y)
