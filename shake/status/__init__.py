"""What the person sees of a task: log, progress, closing summary, status page and diagnostics."""
