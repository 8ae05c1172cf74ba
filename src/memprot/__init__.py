"""Linux memory protection in Python: the public face."""

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

from memprot._native import catch_faults  # noqa: E402
from memprot.calls import mprotect  # noqa: E402
from memprot.errors import ProtectionError  # noqa: E402
from memprot.faults import engine as _engine  # noqa: E402, F401
from memprot.faults.error import FaultError  # noqa: E402
from memprot.memory.region import Region, guarded  # noqa: E402
from memprot.prot import PAGE_SIZE, Prot  # noqa: E402
from memprot.space.mapping import Mapping  # noqa: E402
from memprot.space.maps import AddressSpace  # noqa: E402

__all__ = [
    "PAGE_SIZE",
    "AddressSpace",
    "FaultError",
    "Mapping",
    "Prot",
    "ProtectionError",
    "Region",
    "catch_faults",
    "guarded",
    "mprotect",
]
