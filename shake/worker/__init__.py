"""What runs in the child processes: scanners, shard readers and the writer."""
