"""What a task remembers between its runs, and who may run it: checkpoints, lease, pid file."""
