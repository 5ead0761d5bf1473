"""LangGraph's checkpointer on the log."""

from diurna_workflows.checkpointer.guard import Guard, Hold, LockedThreads, SoleWriter
from diurna_workflows.checkpointer.reads import FollowedThreads, ReadsThreads
from diurna_workflows.checkpointer.saver import KafkaCheckpointSaver

__all__ = ["FollowedThreads", "Guard", "Hold", "KafkaCheckpointSaver", "LockedThreads", "ReadsThreads", "SoleWriter"]
