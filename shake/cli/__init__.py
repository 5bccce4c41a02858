"""The commands: each parses its command line and calls the rest."""
