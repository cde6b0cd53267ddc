"""From a row of logits to a drawn token."""
