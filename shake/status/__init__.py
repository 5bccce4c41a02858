"""What the user sees of a task: log, progress, closing summary, status page and diagnostics."""
