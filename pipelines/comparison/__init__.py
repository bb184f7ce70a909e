"""Paired statistics: scored runs, significance, verdicts, power."""
