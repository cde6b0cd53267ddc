"""One module per endpoint family; server/http/app.py puts them together."""
