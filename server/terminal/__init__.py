"""What people see who talk to a server from a terminal. Nothing here loads a model."""
