"""Code that only makes training faster: it must not change a result beyond rounding."""
