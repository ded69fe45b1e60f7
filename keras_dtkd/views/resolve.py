"""Views by name, from whatever a user gives."""

from keras_dtkd.views.base import View


def resolve_views(views):
    """The views by the names that losses call them by.

    Args:
        views: `None`, one view, a list, or a dict of names. A Keras preprocessing
            layer is wrapped in a `View` of its name.

    Returns:
        A dict.

    Raises:
        TypeError: Something is no layer.
        ValueError: Two of one name.
    """
    if views is None:
        return {}
    if isinstance(views, dict):
        return {name: _view(view, name) for name, view in views.items()}
    named = {}
    for view in views if isinstance(views, list | tuple) else [views]:
        view = _view(view, getattr(view, "name", None))
        if view.name in named:
            raise ValueError(
                f"`Distiller`: two views are called {view.name!r}. Give them in a "
                "dict, by names of your choice."
            )
        named[view.name] = view
    return named


def _view(view, name):
    return view if isinstance(view, View) else View(view, name=name)


def validate_views(losses, views):
    """Every loss is for a view that there is, and every view is for a loss.

    Args:
        losses: Distillation losses by name.
        views: Views by name.

    Raises:
        ValueError: A loss names another one; no loss names one.
    """
    for name, loss in losses.items():
        if loss.view is not None and loss.view not in views:
            known = ", ".join(map(repr, views)) or "none"
            raise ValueError(
                f"`Distiller`: the loss {name!r} is for the view {loss.view!r}. Views "
                f"given by `views=`: {known}."
            )
    unused = [
        name for name in views if all(name != loss.view for loss in losses.values())
    ]
    if unused:
        raise ValueError(
            f"`Distiller`: no loss is for the view {unused[0]!r}. Say so with "
            f"`view={unused[0]!r}` in a loss, or leave the view out."
        )
