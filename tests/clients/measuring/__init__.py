"""Programs that measure or test a server from outside."""
