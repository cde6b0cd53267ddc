"""Which models there are, and what is known of them without loading them."""
