"""The runner of deciders: reads commands in order, decides, writes events, and recovers from anything else."""

from diurna_streams.decide.runner import Decider

__all__ = ["Decider"]
