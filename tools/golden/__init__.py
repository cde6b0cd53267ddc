"""Makes golden models: tiny random weights with logits from two implementations that are not ours.

`python -m tools.golden NAME` writes tests/golden/NAME and its entry of the manifest; README.md here
tells what it needs and how a recipe is written. No part of the package, and it imports none of it.
"""
