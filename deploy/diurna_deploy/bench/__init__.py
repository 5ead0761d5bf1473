"""How fast it is: each figure is taken beside its reference in the same round, for no machine is the same twice."""
