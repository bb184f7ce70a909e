"""Fine-tuning runs, paired comparisons and reports: everything of attnlab around the attention itself."""
