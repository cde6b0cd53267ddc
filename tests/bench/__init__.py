"""Benchmarks beside llama.cpp: `python -m tests.bench`. They print and write, and assert nothing."""
