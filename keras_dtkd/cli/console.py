"""Output to the terminal, by `rich`."""

import os
from typing import Any

NON_TTY_WIDTH = 160


def console():
    """The console of `rich`."""
    from rich.console import Console

    # Names of files may have brackets.
    console = Console(markup=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        # A file has no width at which rows must be broken.
        console.width = NON_TTY_WIDTH
    return console


def escape(text):
    """A text for the status of the console, which takes markup in any case."""
    from rich import markup

    return markup.escape(text)


def print_table(header, rows, title=None):
    """Prints a table whose columns are numbers, except the first."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    screen = console()
    # Must fit into 80 columns.
    narrow: Any = {"box": box.SIMPLE_HEAD, "padding": (0, 0, 0, 1), "pad_edge": False}
    table = Table(**narrow)
    for i, name in enumerate(header):
        table.add_column(name, justify="right" if i else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    if title:
        # Not the title of the `Table`, which is broken at the table's width.
        screen.print(title, style="italic", soft_wrap=True, highlight=False)
    screen.print(table)
