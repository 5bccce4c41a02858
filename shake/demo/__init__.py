"""Everything on one machine: an embedded source, an embedded target, and a migration between."""
