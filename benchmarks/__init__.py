"""What a copy costs, beside a script, from a source that replays into a sink that only counts."""
