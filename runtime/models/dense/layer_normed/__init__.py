"""Families with layer norms, a file each."""
