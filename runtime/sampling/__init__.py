"""How tokens are drawn: what may be asked, and how it becomes words of a slot."""
