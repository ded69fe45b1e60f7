"""Two models whose outputs are logits that a test gives."""

import keras
import numpy as np


def models_of(teacher_logits, student_logits, activation=None):
    """`(teacher, student, x)`: models whose outputs for `x` are these logits.

    Both are `(samples, classes)`. Each is compiled with nothing; `activation` is that
    of the student's last layer.
    """
    classes = teacher_logits.shape[-1]
    x = np.hstack([teacher_logits, student_logits]).astype("float32")
    models = []
    for i, last in enumerate((None, activation)):
        dense = keras.layers.Dense(classes, last, use_bias=False)
        models.append(keras.Sequential([keras.Input((2 * classes,)), dense]))
        kernel = np.zeros((2 * classes, classes))
        kernel[i * classes : (i + 1) * classes] = np.eye(classes)
        models[-1].set_weights([kernel])
    return *models, x


def draw_logits(samples=200, classes=5, seed=0):
    """Teacher's and student's logits and labels: right in half of the cases or so."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, samples)
    teacher = rng.normal(size=(samples, classes)) + 1.5 * np.eye(classes)[labels]
    student = 0.5 * teacher + 0.5 * rng.normal(size=(samples, classes))
    return teacher.astype("float32"), student.astype("float32"), labels
