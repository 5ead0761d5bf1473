"""What the record looks like now: events folded into rows, and the reads over them."""
