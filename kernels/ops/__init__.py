"""One file an op: its operands, its kernel, and what it computes."""
