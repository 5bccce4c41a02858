"""Targets, where documents go, as :mod:`shake.targets.contract` describes them."""
