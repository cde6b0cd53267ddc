"""Families whose blocks are normed before they are added, a file each; gemma3 is one folder up."""
