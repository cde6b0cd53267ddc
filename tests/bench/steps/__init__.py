"""Where the time of a step goes: by op, by step, by the drafts that it verifies."""
