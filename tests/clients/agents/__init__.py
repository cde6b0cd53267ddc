"""Agents: sessions that end by themselves, with a tool called and its result told."""
