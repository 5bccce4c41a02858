"""The supervisor's side of all workers and writers of a task."""
