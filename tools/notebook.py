"""Creates the Colab notebooks from the examples, which use jupytext's percent format.

python tools/notebook.py              write the notebook of each example
python tools/notebook.py --check      fail if a notebook is out of date
python tools/notebook.py --execute    execute the notebooks as smoke runs

Pass the paths of examples to process only these.
"""

import argparse
import ast
import os
import re
import sys
import tempfile
import tomllib
from pathlib import Path

import jupytext
import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell

ROOT = Path(__file__).resolve().parents[1]
COLAB = "https://colab.research.google.com"
BACKENDS = ["tensorflow", "jax", "torch"]


def notebook(source):
    """The notebook of one example. The same source gives the same bytes."""
    example_cells = jupytext.read(source, fmt="py:percent").cells
    title, text = pop_docstring(example_cells)
    cells = [
        new_markdown_cell(f"# {title}\n\n{badge(source)}\n\n{text}".strip()),
        new_code_cell(install_source()),
        new_code_cell(backend_source(source)),
        *[cell for cell in example_cells if cell.source.strip()],
    ]
    for number, cell in enumerate(cells):
        # Replaces nbformat's random ids.
        cell.id = f"cell-{number:02d}"
    result = nbformat.v4.new_notebook(cells=cells)
    result.nbformat_minor = 5
    result.metadata = {
        "kernelspec": {
            "display_name": "Python 3",
            "language": "python",
            "name": "python3",
        },
        "language_info": {"name": "python"},
    }
    return result


def pop_docstring(cells):
    """Removes the module docstring from the first cell. Returns its title and text."""
    first = cells[0]
    tree = ast.parse(first.source if first.cell_type == "code" else "")
    docstring = ast.get_docstring(tree)
    if not docstring:
        sys.exit(
            "The example must start with a docstring: its first line is the title."
        )
    lines = first.source.splitlines()
    first.source = "\n".join(lines[tree.body[0].end_lineno :]).strip()
    title, _, text = docstring.partition("\n")
    return title.rstrip("."), text.strip()


def backend_source(source):
    """Source of the cell that sets the backend, by default that of the example."""
    text = source.read_text(encoding="utf-8")
    default = re.search(r'setdefault\("KERAS_BACKEND", "(\w+)"\)', text)[1]
    first, second = [name for name in BACKENDS if name != default]
    return (
        "import os\n\n"
        f'# Or "{first}", or "{second}", if none is set. Before Keras is imported.\n'
        f'os.environ.setdefault("KERAS_BACKEND", "{default}")'
    )


def repository_url():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return project["project"]["urls"]["Repository"]


def install_source():
    """Source of the install cell. There is no release on PyPI yet."""
    return f'%pip install -q "keras-dtkd[examples] @ git+{repository_url()}"'


def badge(source):
    slug = repository_url().removeprefix("https://")
    slug = slug.replace("github.com", "github", 1)
    link = f"{COLAB}/{slug}/blob/main/examples/{source.stem}.ipynb"
    return f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({link})"


def execute(book):
    """Executes all cells except the install cell, to test the working tree."""
    from nbclient import NotebookClient

    os.environ.setdefault("KERAS_DTKD_QUICK", "1")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    book.cells = [cell for cell in book.cells if cell.source != install_source()]
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(book, timeout=1200, resources=resources).execute()


def main():
    parser = argparse.ArgumentParser(description="Create notebooks from examples.")
    parser.add_argument("sources", nargs="*", type=Path)
    parser.add_argument("--check", action="store_true", help="fail if out of date")
    parser.add_argument("--execute", action="store_true", help="execute, do not write")
    options = parser.parse_args()

    for source in options.sources or sorted((ROOT / "examples").glob("*.py")):
        book = notebook(source)
        written = nbformat.writes(book) + "\n"
        target = source.with_suffix(".ipynb")
        if options.check:
            current = target.read_text(encoding="utf-8") if target.exists() else None
            if current != written:
                sys.exit(f"{target.name} is out of date. Run `make notebook`.")
            print(f"{target.name} is up to date.")
        if options.execute:
            execute(book)
            print(f"{target.name} runs.")
        if not (options.check or options.execute):
            target.write_text(written, encoding="utf-8", newline="\n")
            print(f"Wrote {target.name}.")


if __name__ == "__main__":
    main()
