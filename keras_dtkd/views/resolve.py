"""Views by name, from whatever a user gives."""

from keras_dtkd.views.base import View


def resolve_views(views):
    """A dict of views by name, from `None`, one view, a list, or a dict.

    A Keras preprocessing layer is wrapped in a `View` of its name.
    """
    if views is None:
        return {}
    if not isinstance(views, dict):
        several = views if isinstance(views, list | tuple) else [views]
        names = [getattr(view, "name", None) for view in several]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(
                    f"`Distiller`: two views are called {name!r}. Give them in a dict, "
                    "by names of your choice."
                )
        views = dict(zip(names, several, strict=True))
    return {
        name: view if isinstance(view, View) else View(view, name=name)
        for name, view in views.items()
    }


def validate_views(losses, views):
    """A `ValueError` for a loss whose view is missing, or a view without a loss."""
    for name, loss in losses.items():
        if loss.view is not None and loss.view not in views:
            known = ", ".join(map(repr, views)) or "none"
            raise ValueError(
                f"`Distiller`: the loss {name!r} is for the view {loss.view!r}. Views "
                f"given by `views=`: {known}."
            )
    used = [loss.view for loss in losses.values()]
    for name in views:
        if name not in used:
            raise ValueError(
                f"`Distiller`: no loss is for the view {name!r}. Give a loss "
                f"`view={name!r}`, or leave the view out."
            )
