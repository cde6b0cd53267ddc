"""What carries a state from token to token: ops of recurrent layers and what stands around them."""
