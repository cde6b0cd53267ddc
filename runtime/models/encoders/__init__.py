"""Families that read a whole text at once and give vectors, not tokens.

``lower(b, hp) -> Rows`` returns the rows of the last layer, normed as the family norms them.
"""
