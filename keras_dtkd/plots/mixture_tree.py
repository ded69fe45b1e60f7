"""The blocks of a hierarchical mixture and the classes that use them."""

import numpy as np

from keras_dtkd.plots import inputs, style

CALLER = "plots.mixture_tree"
# Sweeps after which the order of the nodes no longer changes.
SWEEPS = 12
# Weaker connections are not drawn: they would be invisible.
MIN_ATTENTION = 0.01
# Of the classes' attention: a block of less is unused.
MIN_SHARE = 1e-6
# An area in points², of a block that all classes use, and one that none uses.
MAX_AREA, MIN_AREA = 500, 60


def mixture_tree(
    before, after=None, class_names=None, titles=("before", "after"), figure=None
):
    """Draws which blocks of a `models.HierarchicalMixture` feed which classes.

    From left to right stand the blocks of each level and the classes. A line is the
    attention from a child to a parent: the stronger, the wider and the darker; below
    1 % there is none. It has the color of the parent, and is gray where no class uses
    the child. The area of a block grows with the share of the classes' attention that
    leads to it; an empty circle has none. Nodes are ordered so that few lines cross, in
    both trees alike.

    Args:
        before: A mixture, or the result of its `compute_attention`.
        after: A second one of the same levels, as after training or hardening, drawn
            to the right. Optional.
        class_names: A name for each class. Numbers by default.
        titles: Titles of the trees.
        figure: Figure or subfigure to draw in. Optional.

    Returns:
        The matplotlib figure. A new one grows with the number of classes.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: `before` or `after` is neither a mixture nor a list of arrays.
        ValueError: Arrays whose shapes do not fit one another, or whose rows are no
            distributions; or a wrong number of class names.

    Example:

    >>> figure = plots.mixture_tree(mixture, mixture.harden(), class_names)
    >>> figure.savefig("tree.png")
    """
    trees = [_to_arrays("before", before)]
    if after is not None:
        trees.append(_to_arrays("after", after))
        shapes = [[level.shape for level in tree] for tree in trees]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"`{CALLER}`: `before` and `after` must have the same levels. "
                f"Received: shapes {shapes[0]} and {shapes[1]}."
            )
    num_classes = len(trees[0][-1])
    names = range(num_classes) if class_names is None else list(class_names)
    if len(names) != num_classes:
        raise ValueError(
            f"`{CALLER}`: `class_names` must have {num_classes} names. Received: "
            f"{len(names)}."
        )
    if len(titles) < len(trees):
        raise ValueError(
            f"`{CALLER}`: `titles` must have {len(trees)} names. Received: {titles!r}."
        )
    # The later tree is the sparser one: its order shows more.
    positions = _order_nodes(trees[-1])
    # A line of 7 points needs a tenth of an inch.
    height = max(4.5, 1.2 + 0.105 * num_classes)
    if figure is None:
        figure = style.new_figure(5.5 * len(trees), height)
        figure.get_layout_engine().set(wspace=0.04)
    axes = figure.subplots(1, len(trees), squeeze=False)[0]
    for ax, tree, title in zip(axes, trees, titles, strict=False):
        _draw_tree(ax, tree, positions, names)
        ax.set_title(title, fontsize=11)
    return style.root_figure(axes[0])


def _to_arrays(name, value):
    """The attention of each level, float64, from a mixture or from arrays."""
    if hasattr(value, "compute_attention"):
        value = value.compute_attention()
    if not isinstance(value, list | tuple) or not len(value):
        raise TypeError(
            f"`{CALLER}`: `{name}` must be a `HierarchicalMixture` or a list of "
            f"attention arrays. Received: {type(value).__name__}."
        )
    levels = [inputs.to_float64(level) for level in value]
    parents = None
    for level in levels:
        if level.ndim != 2 or not level.size or parents not in (None, level.shape[1]):
            raise ValueError(
                f"`{CALLER}`: the arrays of `{name}` must have the shapes (children, "
                "parents), the children of one being the parents of the next. "
                f"Received: {', '.join(str(each.shape) for each in levels)}."
            )
        # NaN is no distribution either.
        if not (level.min() >= 0 and np.allclose(level.sum(-1), 1, atol=1e-3)):
            raise ValueError(
                f"`{CALLER}`: the rows of `{name}` must be distributions: not "
                "negative, with a sum of 1."
            )
        parents = len(level)
    return levels


def _order_nodes(tree):
    """Positions of the nodes of each level, from 0 to 1, by the barycenter method.

    Children are sorted by the mean position of their parents, and parents by that of
    their children, in turns; a tree has no crossings in the end.
    """
    counts = [tree[0].shape[1], *map(len, tree)]
    positions = [_spread(np.arange(count)) for count in counts]
    for _ in range(SWEEPS):
        for number in range(len(tree) - 1, -1, -1):
            weights = tree[number] + 1e-9
            means = weights.T @ positions[number + 1] / weights.sum(0)
            positions[number] = _spread(means)
        for number, attention in enumerate(tree):
            positions[number + 1] = _spread(attention @ positions[number])
    return positions


def _spread(values):
    """Evenly spaced positions in the order of the values."""
    ranks = np.argsort(np.argsort(np.round(values, 9), kind="stable"), kind="stable")
    return (ranks + 0.5) / len(values)


def _draw_tree(ax, tree, positions, names):
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgba

    num_classes = len(positions[-1])
    # Shares of the classes' attention, from the classes back to the first level.
    shares = [np.full(num_classes, 1 / num_classes)]
    for attention in reversed(tree):
        shares.insert(0, shares[0] @ attention)
    colors = [
        [style.PALETTE[int(y * len(level)) % len(style.PALETTE)] for y in level]
        for level in positions[:-1]
    ]
    for number, attention in enumerate(tree):
        children, parents = np.nonzero(attention >= MIN_ATTENTION)
        strengths = attention[children, parents]
        order = np.argsort(strengths)
        children, parents, strengths = children[order], parents[order], strengths[order]
        ends = [
            [(number, positions[number][p]), (number + 1, positions[number + 1][c])]
            for c, p in zip(children, parents, strict=True)
        ]
        # A line to a child that no class uses is gray.
        child_is_used = shares[number + 1] > MIN_SHARE
        rgba = [
            to_rgba(
                colors[number][p] if child_is_used[c] else style.GRAY,
                (0.08 + 0.82 * s) * (1 if child_is_used[c] else 0.5),
            )
            for c, p, s in zip(children, parents, strengths, strict=True)
        ]
        widest = 3.5 if len(attention) <= 20 else 1.8
        lines = LineCollection(ends, colors=rgba, linewidths=widest * strengths)
        ax.add_collection(lines)
    for number, level in enumerate(positions[:-1]):
        is_used = shares[number] > MIN_SHARE
        area = MIN_AREA + (MAX_AREA - MIN_AREA) * shares[number]
        face = np.where(is_used, colors[number], "white")
        edge = np.where(is_used, colors[number], style.GRAY)
        x = np.full(len(level), number)
        ax.scatter(x, level, area, face, edgecolors=edge, linewidths=1, zorder=3)
        for block, y in enumerate(level):
            color = "white" if is_used[block] else style.GRAY
            place = {"ha": "center", "va": "center_baseline", "zorder": 4}
            ax.text(number, y, block + 1, color=color, fontsize=7, **place)
    ax.scatter(
        np.full(num_classes, len(tree)), positions[-1], 6, color="black", zorder=3
    )
    _label_axes(ax, positions, names)


def _label_axes(ax, positions, names):
    levels = [f"level {number + 1}" for number in range(len(positions) - 1)]
    ax.set_xticks(range(len(positions)), [*levels, "classes"])
    ax.set_xlim(-0.2, len(positions) - 0.97)
    # The first class is on top.
    ax.set_ylim(1, 0)
    ax.yaxis.tick_right()
    ax.set_yticks(positions[-1], names, fontsize=9 if len(names) <= 20 else 6.5)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
