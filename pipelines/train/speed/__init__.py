"""What only makes training faster: it may change no result beyond rounding."""
