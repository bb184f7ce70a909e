"""Models and ablations on the Hugging Face Hub: pushed in one commit, downloaded and checked by hash."""
