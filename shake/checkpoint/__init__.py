"""What is saved of a task between its runs, and which process runs it."""
