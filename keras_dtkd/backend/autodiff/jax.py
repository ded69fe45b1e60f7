"""JAX."""


def value_and_input_grad(fn, x):
    """Always with `aux`."""
    import jax

    return jax.value_and_grad(fn, has_aux=True)(x)


def jvp(fn, x, v):
    """Always with `aux`."""
    import jax

    value, tangent, aux = jax.jvp(fn, (x,), (v,), has_aux=True)
    return (value, aux), tangent
