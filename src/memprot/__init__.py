"""Linux memory protection in Python: the public face.

PYTEST_DONT_REWRITE: the package brings a plugin of pytest, and may be loaded before that.
"""

import sys
from importlib import import_module

if sys.platform != "linux":
    raise ImportError(
        f"memprot needs Linux, and this is {sys.platform}: "
        "it is built on mprotect(2), signals and /proc as Linux has them"
    )

try:
    # Where only the extension's sources are found, Python takes their folder for a package without a file.
    if import_module("memprot._native").__file__ is None:
        raise ImportError("only its sources are there")
except ImportError as error:
    raise ImportError(
        f"memprot's C extension cannot be loaded by Python {sys.version_info.major}.{sys.version_info.minor} "
        f"({error}): install memprot again with this interpreter, `{sys.executable} -m pip install memprot`; "
        "it needs CPython 3.11 or later on x86_64 or aarch64",
        name="memprot._native",
    ) from error

from memprot._native import catch_faults
from memprot.calls import mprotect, pkey_mprotect
from memprot.diagnosis import factory as _factory  # noqa: F401 - diagnoses what memprot.calls raises
from memprot.diagnosis.verdict import Verdict, check
from memprot.errors import ProtectionError
from memprot.faults import engine as _engine  # noqa: F401
from memprot.faults import kernel_error as _kernel_error  # noqa: F401 - registers itself
from memprot.faults.error import FaultError
from memprot.memory.peek import peek, poke
from memprot.memory.protection import protect, protected
from memprot.memory.region import Region, guarded
from memprot.memory.sealing import seal
from memprot.memory.write_execute import deny_write_execute, write_execute_denied
from memprot.prot import PAGE_SIZE, Prot
from memprot.reason import Reason
from memprot.space.mapping import Mapping
from memprot.space.maps import AddressSpace

__all__ = [
    "PAGE_SIZE",
    "AddressSpace",
    "FaultError",
    "Mapping",
    "Prot",
    "ProtectionError",
    "Reason",
    "Region",
    "Verdict",
    "catch_faults",
    "check",
    "deny_write_execute",
    "guarded",
    "mprotect",
    "peek",
    "pkey_mprotect",
    "poke",
    "protect",
    "protected",
    "seal",
    "write_execute_denied",
]
