"""What several tasks use: encoders of words, texts and pairs, losses, baselines."""
