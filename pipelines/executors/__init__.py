"""Ways to run the cells of an ablation: here, or on other machines."""
