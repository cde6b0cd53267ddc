"""The process: its start, its life, its end, and what it tells of itself."""
