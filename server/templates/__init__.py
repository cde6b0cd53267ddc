"""Chat templates from strangers: a sandbox, its limits, and users' texts kept apart."""
