"""Texts as models read them for vectors and scores, and what comes of it."""
