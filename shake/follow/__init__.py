"""Following changes: the state of a table's stream, and who reads which shard."""
