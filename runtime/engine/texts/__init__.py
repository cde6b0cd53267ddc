"""Vectors of texts: on an encoder, and on a model that generates."""
