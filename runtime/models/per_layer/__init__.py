"""Families each of whose layers gets an embedding of the token of its own."""
