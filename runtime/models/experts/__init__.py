"""Families of mixtures of experts that have attention only."""
