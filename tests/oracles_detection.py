"""Losses on the pyramids of detectors in float64 NumPy, from the papers' formulas.

Maps are `(batch, height, width, channels)`. Each function gives one value a sample,
`(batch,)`. Those with trainable weights take them by name; without, the weights are
`fixed_weights` of their shapes.
"""

import numpy as np

# In shares of the image, left, top, right, bottom; the last one is padding.
LABELS = {
    "boxes": np.array([[0.3, 0.1, 0.7, 0.6], [0.0, 0.0, 0.2, 0.3], [-1.0] * 4]),
    "labels": np.array([1.0, 0.0, -1.0]),
}


def fixed_weights(shape):
    rng = np.random.default_rng(sum(shape) + len(shape))
    return 0.5 * rng.normal(size=tuple(shape))


def softmax(values, axis):
    powers = np.exp(values - values.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def feature_sum(student, teacher, weights):
    return ((student - teacher) ** 2).sum((1, 2, 3))


def feature_l1_sum(student, teacher, weights):
    return np.abs(student - teacher).sum((1, 2, 3))


def channel_wise(student, teacher, weights, temperature=2.0):
    """The mean over channels of the divergence over positions."""
    total = np.zeros(len(student))
    for i in range(len(student)):
        for c in range(student.shape[-1]):
            q, p = (
                softmax(f[i, ..., c].reshape(-1) / temperature, 0)
                for f in (student, teacher)
            )
            total[i] += (p * np.log(p / q)).sum()
    return temperature**2 * total / student.shape[-1]


def convolve(maps, kernel, bias):
    """A convolution of size 3 with zeros around the map."""
    height, width = maps.shape[1:3]
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
    result = np.zeros((*maps.shape[:3], kernel.shape[-1])) + bias
    for i in range(3):
        for j in range(3):
            result += padded[:, i : i + height, j : j + width] @ kernel[i, j]
    return result


def mgd_weights(channels):
    kernel, bias = (3, 3, channels, channels), (channels,)
    return [fixed_weights(shape) for shape in (kernel, bias, kernel, bias)]


def mgd(student, teacher, weights, variables=None, kept=1.0, total=False):
    """`kept` is the mask, `(batch, height, width, 1)`."""
    variables = mgd_weights(teacher.shape[-1]) if variables is None else variables
    hidden = np.maximum(convolve(student * kept, *variables[:2]), 0)
    squares = (convolve(hidden, *variables[2:]) - teacher) ** 2
    return squares.sum((1, 2, 3)) if total else squares.mean((1, 2, 3))


def box_masks(boxes, labels, height, width):
    """Of one image, cell by cell."""
    foreground = np.zeros((height, width))
    for (left, top, right, bottom), label in zip(boxes, labels, strict=True):
        if label < 0:
            continue
        first_row, last_row = int(np.floor(top * height)), int(np.ceil(bottom * height))
        first, last = int(np.floor(left * width)), int(np.ceil(right * width))
        value = 1 / ((last_row - first_row + 1) * (last - first + 1))
        for row in range(first_row, min(last_row, height - 1) + 1):
            for column in range(first, min(last, width - 1) + 1):
                foreground[row, column] = max(foreground[row, column], value)
    background = (foreground == 0).astype(float)
    return foreground, background / max(background.sum(), 1)


def context_weights(channels):
    half = channels // 2
    shapes = [(channels, 1), (1,), (channels, half), (half,), (half,), (half,)]
    return [fixed_weights(shape) for shape in (*shapes, (half, channels), (channels,))]


def context_block(maps, variables):
    attention, offset, squeeze, bias, gamma, beta, expand, last = variables
    positions = maps.reshape(len(maps), -1, maps.shape[-1])
    shares = softmax(positions @ attention + offset, 1)
    hidden = (shares * positions).sum(1) @ squeeze + bias
    mean, variance = hidden.mean(-1, keepdims=True), hidden.var(-1, keepdims=True)
    hidden = gamma * (hidden - mean) / np.sqrt(variance + 1e-5) + beta
    context = np.maximum(hidden, 0) @ expand + last
    return maps + context[:, None, None]


def fgd(
    student,
    teacher,
    weights,
    labels=None,
    variables=None,
    factors=(0.25, 0.125, 0.25, 1.0),
    temperature=0.5,
    total=False,
):
    """`labels` of each sample; `variables` of the student's block and the teacher's."""
    labels = [LABELS] * len(student) if labels is None else labels
    if variables is None:
        variables = [context_weights(teacher.shape[-1])] * 2
    _, height, width, channels = teacher.shape
    count = 1 if total else channels
    sizes = (1, 1) if total else (height * width, channels)
    maps = [context_block(*p) for p in zip((student, teacher), variables, strict=True)]
    values = []
    for i, label in enumerate(labels):
        space, channel = [], []
        for f in (student[i], teacher[i]):
            energy = np.abs(f).mean(-1).reshape(-1) / temperature
            space.append(height * width * softmax(energy, 0).reshape(height, width))
            energy = np.abs(f).mean((0, 1)) / temperature
            channel.append(channels * softmax(energy, 0))
        squares = (student[i] - teacher[i]) ** 2
        squares = squares * space[1][..., None] * channel[1]
        masks = box_masks(label["boxes"], label["labels"], height, width)
        focal = [(squares * mask[..., None]).sum() / count for mask in masks]
        attention = np.abs(space[0] - space[1]).sum() / sizes[0]
        attention += np.abs(channel[0] - channel[1]).sum() / sizes[1]
        relation = ((maps[0][i] - maps[1][i]) ** 2).sum() / (sizes[0] * sizes[1])
        parts = np.array([*focal, attention, relation])
        values.append((np.array(factors) * parts).sum())
    return np.array(values)
