"""The files of which an exported model carries a copy."""
