"""From a checked body to an answer: prompts, limits, generations, streams, wording."""
