"""What a task remembers between its runs, and who may run it: checkpoints, task lock, pid file."""
