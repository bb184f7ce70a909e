"""Training on accelerate: loop, engine, batches, checkpoints, evaluation."""
