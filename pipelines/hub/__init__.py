"""Models and ablations on the Hugging Face Hub: pushed once and whole, read back exactly as pushed."""
