"""Mixtures of experts, and what goes through the same ops."""
