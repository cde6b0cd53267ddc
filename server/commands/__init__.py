"""One module a command of `slotmux`; what they share is in options, progress and loading."""
