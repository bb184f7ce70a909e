"""What scripts/check-gpu measures: one part a file, the claims they decide, and the page of the figures."""
