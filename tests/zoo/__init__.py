"""Tiny checkpoints of every family that people load, and what transformers itself makes of them."""
