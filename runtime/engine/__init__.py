"""The engine: requests in, steps of all slots, outputs out."""
