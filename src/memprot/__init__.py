"""Linux memory protection in Python: the public face."""

import sys

if sys.platform != "linux":
    raise ImportError(
        f"memprot needs Linux, and this is {sys.platform}: "
        "it is built on mprotect(2), signals and /proc as Linux has them"
    )

try:
    from memprot import _native as _native
except ImportError as error:
    raise ImportError(
        f"memprot's C extension cannot be loaded by Python {sys.version_info.major}.{sys.version_info.minor} "
        f"({error}): install memprot again with this interpreter, `{sys.executable} -m pip install memprot`; "
        "it needs CPython 3.11 or later on x86_64 or aarch64",
        name="memprot._native",
    ) from error
