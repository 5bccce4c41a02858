"""Following a table's stream: which shards there are, in which order they are read, how far."""
