"""Calls of tools and thoughts: how models write them, how they are read and constrained."""
