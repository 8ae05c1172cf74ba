"""When a rule of memory is broken: the record of it, how it is told, and what happens then."""

from memprot.faults.engine import get_policy, set_policy

__all__ = ["get_policy", "set_policy"]
