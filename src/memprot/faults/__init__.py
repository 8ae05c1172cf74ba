"""When a rule of memory is broken: what becomes of it, the record of it, and how it is told.

>>> import memprot.faults
>>> memprot.faults.get_history_limit()
1000
"""

from memprot.faults.chronicle import get_history_limit, history, set_history_limit
from memprot.faults.engine import get_policy, set_policy
from memprot.faults.record import Block, FaultRecord, FaultThread, NativeFrame, PythonFrame

__all__ = [
    "Block",
    "FaultRecord",
    "FaultThread",
    "NativeFrame",
    "PythonFrame",
    "get_history_limit",
    "get_policy",
    "history",
    "set_history_limit",
    "set_policy",
]
