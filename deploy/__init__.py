"""What runs slotmux elsewhere: files for operators, and one package, for Ray."""
