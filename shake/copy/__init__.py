"""The full copy: the state of a table, its phases, and who scans what."""
