"""Tiny vocabularies of every kind of tokenizer, and what llama.cpp makes of awkward texts."""
