"""What a sequence lives in: engine, scheduler, slots, memory, models, tokenizer, sampling, GGUF."""
