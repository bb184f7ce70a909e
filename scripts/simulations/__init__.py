"""Parts of scripts/simulate-statistics."""
