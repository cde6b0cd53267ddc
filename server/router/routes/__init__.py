"""Endpoints that the router answers itself."""
