"""Predictions and scores that other programs wrote: their files, their examples, their sides."""
