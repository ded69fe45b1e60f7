"""The command `keras-dtkd`: studies on the literature's data sets, from a shell.

A thin layer over the library; docs/cli.md is its documentation.
"""

from keras_dtkd.cli.command import main as main
