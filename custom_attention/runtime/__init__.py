"""The files that an exported model carries a copy of."""
