"""The only file that needs matplotlib to be imported."""

import io

from matplotlib.figure import Figure


class NotebookFigure(Figure):
    """A figure that notebooks show, though pyplot knows nothing of it."""

    def _repr_png_(self):
        picture = io.BytesIO()
        self.savefig(picture, format="png")
        return picture.getvalue()
