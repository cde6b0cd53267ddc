"""The tier below host memory: blocks and states in files, found again by what they begin with."""
