"""Graphs of agents at work, on LangGraph."""
