"""How the demo model is made: its text, its network, its training, its GGUF file."""
