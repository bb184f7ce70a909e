"""What every variant must do on every architecture: tiny models from scratch, and the checks on them."""
