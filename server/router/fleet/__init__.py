"""Which models are loaded, for whom, and which give way."""
