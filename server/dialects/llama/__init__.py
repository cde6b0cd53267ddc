"""llama-server's own routes, in its shapes."""
