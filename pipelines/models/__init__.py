"""Models: build or load them, their processor, attention variants, LoRA, saving."""
