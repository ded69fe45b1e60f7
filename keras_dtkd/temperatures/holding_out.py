"""A rule that learns from samples that its student is not trained on."""

import numbers
from typing import Any

from keras_dtkd import data
from keras_dtkd.temperatures.arguments import within
from keras_dtkd.temperatures.base import Temperature


class HoldingOut(Temperature):
    """A temperature rule with `held_out`: `(x, y)`, or a share of the training data.

    Raises:
        ValueError: `held_out` is neither, when it is set.
    """

    _held_out: Any

    @property
    def held_out(self):
        """A share, or inputs and labels. To be set again after loading, if these."""
        return self._held_out

    @held_out.setter
    def held_out(self, value):
        pair = isinstance(value, list | tuple) and len(value) == 2
        if pair and value[1] is not None:
            data.no_lists(value[0], value[1], "held-out ")
            if data.rows_of(value[0]) != data.rows_of(value[1]):
                raise ValueError(
                    f"`Policy`: `held_out` has {data.rows_of(value[0])} inputs and "
                    f"{data.rows_of(value[1])} labels."
                )
        elif isinstance(value, numbers.Real):
            within("Policy", "held_out", value, 0.0, 1.0)
        elif value is not None:
            raise ValueError(
                f"`Policy`: `held_out` is a {type(value).__name__}. Give "
                "`held_out=(x, y)`, inputs and labels, or a share of the data between "
                "0 and 1."
            )
        # No list that Keras would look for layers in.
        self.__dict__["_held_out"] = value

    def __setattr__(self, name, value):
        # Keras would hand the setter tracked dicts and lists, which no model takes for
        # inputs.
        if name == "held_out":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def get_config(self):
        """The arguments that make this rule again; of data held out, `None`."""
        share = self.held_out
        share = share if isinstance(share, numbers.Real) else None
        return {**super().get_config(), "held_out": share}
