"""A simulated inference engine, and an OpenAI-compatible server around it."""
