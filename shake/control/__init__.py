"""Commands for a running task: what they are, the socket that takes them, and its client."""
