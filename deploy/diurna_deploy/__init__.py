"""Where it runs: the command line, the embedded stack, the processes."""
