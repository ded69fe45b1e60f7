"""The networks and the training step of step_time.py in plain JAX."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

WIDTHS = 16, 32, 64


def init(key, depth, classes):
    """Weights and batch norms' statistics of a CIFAR ResNet, as nested lists."""
    keys = iter(jax.random.split(key, 2 * depth))

    def conv(inputs, outputs, size=3):
        scale = np.sqrt(2 / (outputs * size * size))
        kernel = scale * jax.random.normal(next(keys), (size, size, inputs, outputs))
        norm = jnp.ones(outputs), jnp.zeros(outputs)
        return (kernel, *norm), (jnp.zeros(outputs), jnp.ones(outputs))

    convs, inputs = [conv(3, 16)], 16
    for width in WIDTHS:
        for _ in range((depth - 2) // 6):
            convs += [conv(inputs, width), conv(width, width)]
            if inputs != width:
                convs.append(conv(inputs, width, 1))
            inputs = width
    dense = jax.random.normal(next(keys), (inputs, classes)) / 8, jnp.zeros(classes)
    weights, statistics = map(list, zip(*convs, strict=True))
    return (weights, dense), statistics


def apply(weights, statistics, x, training, dtype):
    """Logits `(batch, classes)` in float32, and the new statistics."""
    convs, (kernel, bias) = weights
    layers, updated = iter(zip(convs, statistics, strict=True)), []

    def conv(x, stride=1):
        (kernel, gamma, beta), (mean, variance) = next(layers)
        padding = [(kernel.shape[0] // 2,) * 2] * 2
        numbers = ("NHWC", "HWIO", "NHWC")
        kernel = kernel.astype(dtype)
        x = lax.conv_general_dilated(
            x, kernel, (stride,) * 2, padding, None, None, numbers
        )
        x = x.astype("float32")
        if training:
            new = jnp.mean(x, (0, 1, 2)), jnp.var(x, (0, 1, 2))
            pairs = zip((mean, variance), new, strict=True)
            updated.append(tuple(0.9 * a + 0.1 * b for a, b in pairs))
            mean, variance = new
        x = (x - mean) * (gamma * lax.rsqrt(variance + 1e-5)) + beta
        return x.astype(dtype)

    x = jax.nn.relu(conv(x.astype(dtype)))
    blocks = (len(convs) - 3) // 6
    for stage in range(len(WIDTHS)):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            y = conv(jax.nn.relu(conv(x, stride)))
            x = jax.nn.relu(y + (conv(x, stride) if stride == 2 else x))
    x = jnp.mean(x.astype("float32"), (1, 2)).astype(dtype)
    logits = (x @ kernel.astype(dtype)).astype("float32") + bias
    return logits, lax.stop_gradient(updated)


class Step:
    """A distillation step by hand: cross-entropy, T²·KL, SGD, two logged means.

    Args:
        depths: Depths of teacher and student.
        lr: Learning rate.
        precision: `"float32"` or `"bfloat16"`, of convolutions and the dense layer.
        classes: Number of classes.
        temperature: T.
    """

    def __init__(self, depths, lr, precision, classes=100, temperature=4.0):
        keys = jax.random.split(jax.random.key(0), 2)
        self.teacher, (weights, statistics) = (
            init(key, depth, classes) for key, depth in zip(keys, depths, strict=True)
        )
        velocity = jax.tree.map(jnp.zeros_like, weights)
        self.state = weights, statistics, velocity, jnp.zeros(2)

        def loss_of(weights, statistics, x, y, teacher_logits):
            logits, statistics = apply(weights, statistics, x, True, precision)
            log_p, log_q = (
                jax.nn.log_softmax(z / temperature) for z in (teacher_logits, logits)
            )
            kl = temperature**2 * jnp.sum(jnp.exp(log_p) * (log_p - log_q), -1)
            picked = jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], -1)
            loss = 0.5 * jnp.mean(-picked) + 0.5 * jnp.mean(kl)
            return loss, (statistics, jnp.mean(logits.argmax(-1) == y))

        def step(teacher, state, x, y):
            weights, statistics, velocity, sums = state
            teacher_logits, _ = apply(*teacher, x, False, precision)
            (loss, (statistics, accuracy)), gradients = jax.value_and_grad(
                loss_of, has_aux=True
            )(weights, statistics, x, y, teacher_logits)
            velocity = jax.tree.map(lambda v, g: 0.9 * v - lr * g, velocity, gradients)
            weights = jax.tree.map(jnp.add, weights, velocity)
            return weights, statistics, velocity, sums + jnp.stack([loss, accuracy])

        self.step = jax.jit(step, donate_argnums=1)

    def epoch(self, x, y, batch):
        """One pass over shuffled NumPy arrays, in whole batches.

        Returns:
            Mean loss and accuracy.
        """
        order = np.random.permutation(len(x))
        steps = len(x) // batch
        self.state = (*self.state[:3], jnp.zeros(2))
        for i in range(steps):
            indices = order[i * batch : (i + 1) * batch]
            self.state = self.step(self.teacher, self.state, x[indices], y[indices])
        return (np.asarray(self.state[3]) / steps).tolist()
