"""The six agents that do the work."""
