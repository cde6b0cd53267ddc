"""What clients may send, one module per endpoint family."""
