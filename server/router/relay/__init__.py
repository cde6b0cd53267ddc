"""Requests on their way to a model and answers on their way back."""
