"""GGUF files of published shapes from random blocks."""
