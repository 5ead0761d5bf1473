"""`diurna demo`: everything started, real work done in front of everybody, broken on purpose, and shown to be whole."""

from diurna_deploy.demo.deployment import Subject
from diurna_deploy.demo.run import run_demo

__all__ = ["Subject", "run_demo"]
