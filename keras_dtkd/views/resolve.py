"""Views by name, from whatever a user gives."""

from keras_dtkd.views.base import View


def resolve_views(views):
    """A dict of views by name, from `None`, one view, a list, or a dict.

    A Keras preprocessing layer is wrapped in a `View` of its name.
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
    """A `ValueError` for a loss whose view is missing, or a view without a loss."""
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
