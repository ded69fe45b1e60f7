"""The only module that needs matplotlib to be imported."""

import io

from matplotlib.figure import Figure


class NotebookFigure(Figure):
    """A figure that notebooks display although pyplot does not manage it."""

    def _repr_png_(self):
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()
