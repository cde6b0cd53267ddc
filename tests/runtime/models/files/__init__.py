"""Files that are damaged, odd or of another kind, and what becomes of them."""
