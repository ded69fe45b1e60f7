"""The command `keras-dtkd`: studies on the literature's data sets, from a shell.

Thin: everything it does is a few lines of the library. docs/cli.md is its page.
"""

from keras_dtkd.cli.command import main as main
