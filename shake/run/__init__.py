"""One run of a task, from its start to its exit status."""
