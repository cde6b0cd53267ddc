"""What a client sees: command line, HTTP routes, schemas, chat templates, metrics."""
