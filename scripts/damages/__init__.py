"""The parts of `scripts/damage`: kinds of damage, folders and the commands that read them, cases, table."""
