"""The machine a finding or a figure comes from: kernel, CPU, page size, interpreter.

>>> from memprot import machine
>>> machine.describe().page_size % 4096
0
"""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Machine", "describe"]


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a program runs.

    Attributes:
        kernel: release of the running kernel, as ``uname -r`` prints it.
        architecture: of the kernel, as ``uname -m`` prints it.
        cpu: the CPU's name, or ``"unknown"`` where the kernel does not tell (aarch64).
        page_size: in bytes.
        python: implementation and version of the interpreter.

    >>> from memprot.machine import Machine
    >>> print(Machine("6.12.0", "x86_64", "Some CPU", 4096, "CPython 3.13.0"))
    Linux 6.12.0 on x86_64 (Some CPU), pages of 4096 bytes, CPython 3.13.0
    """

    kernel: str
    architecture: str
    cpu: str
    page_size: int
    python: str

    def __str__(self) -> str:
        return (
            f"Linux {self.kernel} on {self.architecture} ({self.cpu}), pages of {self.page_size} bytes, {self.python}"
        )


def describe() -> Machine:
    """Describe the machine this process runs on.

    Source: uname(2), proc_cpuinfo(5), sysconf(3).

    >>> from memprot import machine
    >>> machine.describe().kernel == __import__("os").uname().release
    True
    """
    kernel = os.uname()
    return Machine(
        kernel=kernel.release,
        architecture=kernel.machine,
        cpu=_cpu_name(),
        page_size=os.sysconf("SC_PAGESIZE"),
        python=f"{platform.python_implementation()} {platform.python_version()}",
    )


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return "unknown"
