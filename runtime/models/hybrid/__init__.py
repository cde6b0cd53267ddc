"""Families that have both attention and recurrent layers."""
