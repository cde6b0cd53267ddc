"""Logits and tokenizations of implementations that are not ours."""
