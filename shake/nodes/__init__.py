"""Several machines: a head that runs the task, and nodes on which its children work."""
