"""Processes of models: how they begin, what they are told, how they end."""
