"""Ops on rows alone: products, norms, activations, changes of form."""
