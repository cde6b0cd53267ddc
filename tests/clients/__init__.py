"""Clients that others wrote, from PyPI and npm, against a real server (`make test-clients`)."""
