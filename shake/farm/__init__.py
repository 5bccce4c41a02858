"""The farm: a supervisor, N workers that read, and one writer for each collection."""
