"""Programs for the work on shake itself; nothing of it is installed."""
