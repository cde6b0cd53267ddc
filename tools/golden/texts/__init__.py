"""Golden models that read whole texts: vectors of texts from transformers and llama.cpp."""
