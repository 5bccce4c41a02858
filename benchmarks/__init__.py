"""Measures shake beside a script, from a source that replays pages into a sink that only counts."""
