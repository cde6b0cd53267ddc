"""Several models behind one port: each is served by a process of its own; one that owns the port
chooses, starts, ends and forwards."""
