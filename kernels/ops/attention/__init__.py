"""Attention over cells: rotary positions, storing k and v, scores, values, folding."""
