"""Processes and devices: launch, stop, the accelerator, sharding, transfer."""
