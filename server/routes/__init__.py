"""One module per endpoint family; server/app.py puts them together."""
