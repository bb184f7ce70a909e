"""The picture of docs/architecture.md, drawn from the imports (scripts/architecture-figure)."""
