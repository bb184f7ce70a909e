"""The page of published claims: their ablations, the results that are kept, and the text."""
