"""`python -m keras_dtkd.cli`, the same as `keras-dtkd`."""

import sys

from keras_dtkd.cli.command import main

sys.exit(main())
