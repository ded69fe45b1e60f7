"""Names of classes, for tables and plots."""


def check_class_names(caller, class_names, num_classes):
    """Checks for one name for each class. Returns a list of texts.

    Numbers for `None`. A `ValueError` names the class or function `caller`.
    """
    names = range(num_classes) if class_names is None else class_names
    names = [str(name) for name in names]
    if len(names) != num_classes:
        raise ValueError(
            f"`{caller}`: there are {len(names)} `class_names` and {num_classes} "
            "classes. Pass one name for each class."
        )
    return names


def shorten_names(names, width):
    """Names of at most `width` characters.

    Names that could not be distinguished any more begin with the class number.
    """
    short = [_shorten(name, width) for name in names]
    return [
        _shorten(f"{i} {name}", width) if short.count(short[i]) > 1 else short[i]
        for i, name in enumerate(names)
    ]


def _shorten(name, width):
    return name if len(name) <= width else f"{name[: width - 1]}…"
