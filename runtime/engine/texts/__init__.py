"""Serving an encoder: texts wait in a line, a step encodes as many as it is worth."""
