"""Proves source and target equal, both ways; :func:`shake.check.run.check` is the way in."""
