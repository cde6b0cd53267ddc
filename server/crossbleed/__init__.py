"""A client that shows whether a live server mixes up the requests of different users."""
