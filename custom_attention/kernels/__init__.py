"""Kernels that take the place of sdpa."""
