"""From a recipe to a GGUF file: vocabulary, weights, checkpoint, converter."""
