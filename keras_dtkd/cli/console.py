"""What the terminal shows, by `rich`."""

import os
from typing import Any

from keras_dtkd.cli.errors import UserError

WIDE = 160


def console():
    """Where to print.

    Raises:
        Refused: `rich` is not installed.
    """
    try:
        from rich.console import Console
    except ImportError:
        raise UserError(
            "tables and progress are shown by `rich`, which is not installed: "
            "pip install rich"
        ) from None
    screen = Console()
    if not screen.is_terminal and "COLUMNS" not in os.environ:
        # A file has no edge at which rows must be broken.
        screen.width = WIDE
    return screen


def show(header, rows, title=None):
    """Prints a table; all columns but the first are numbers."""
    screen = console()
    from rich import box
    from rich.table import Table

    # Eighty columns are not many.
    narrow: Any = {"box": box.SIMPLE_HEAD, "padding": (0, 0, 0, 1), "pad_edge": False}
    table = Table(**narrow)
    for i, name in enumerate(header):
        table.add_column(name, justify="right" if i else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    if title:
        # Not the table's, which would break it at the table's width.
        screen.print(title, style="italic", soft_wrap=True, highlight=False)
    screen.print(table)
