"""Programs for those who work on slotmux; no part of the package."""
