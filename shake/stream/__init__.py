"""What a stream consists of: its shards, the order in which they are read, and their journal."""
