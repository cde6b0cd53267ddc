"""Benchmarks beside llama.cpp, `python -m tests.bench`: they print and assert nothing."""
