"""Speed as clients see it, over HTTP."""
