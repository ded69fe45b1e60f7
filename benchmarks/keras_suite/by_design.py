"""Tests of Keras that cannot hold for a Distiller: part of the name, and why."""

BY_DESIGN: dict[str, str] = {}
