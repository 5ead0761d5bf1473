"""What moves and what is decided: the log, the deciders, the projector."""
