"""Families without attention, and the mixers that hybrids share with them."""
