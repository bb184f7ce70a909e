"""The parts of `scripts/chaos` that kill whole commands."""
