"""Pictures of a report as SVG text: one file per figure, drawn from facts alone."""
