"""MongoDB as a target."""
