"""Libraries from npm."""
