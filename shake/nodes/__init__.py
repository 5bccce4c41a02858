"""Farms on several machines: the head and its nodes, and the links between them.

Nothing of it is imported without ``--nodes``.
"""
