"""Who gets a slot next, and which: turns, small ones that pass, sessions, memory."""
