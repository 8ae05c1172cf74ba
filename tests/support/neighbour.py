"""What the tests of living with others share: a blocked write that becomes an exception, asked for again and again."""

import subprocess
from importlib.util import find_spec

import pytest

SETUP = """
import ctypes, os, signal, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)
import misbehave
from memprot import PAGE_SIZE, Region, FaultError, catch_faults
region = Region(10, "r--")

def raises(gil=True):
    "Whether a blocked write in C becomes one FaultError, of this thread and with the right values, and the data stays."
    try:
        with catch_faults():
            misbehave.write(region.address + 3, 1, gil=gil)
    except FaultError as fault:
        found = (fault.access, fault.offset, fault.others, fault.thread.id, region.read(0, 4))
        return found == ("write", 3, (), threading.get_native_id(), bytes(4))
    return False
"""


def printed(child: subprocess.CompletedProcess[str]) -> str:
    """What a child program printed, one that ended well."""
    assert child.returncode == 0, (child.returncode, child.stdout, child.stderr)
    return child.stdout.strip()


def needs(module: str) -> pytest.MarkDecorator:
    """Skip where a package is not installed."""
    return pytest.mark.skipif(
        find_spec(module) is None, reason=f"{module} is not installed; make neighbours installs it"
    )
