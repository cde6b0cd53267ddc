"""Families whose layers have attention only."""
