"""The table of the zoo: measured and written down."""
