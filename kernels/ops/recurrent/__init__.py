"""Ops that carry a state from token to token: scans, convolutions, token shifts."""
