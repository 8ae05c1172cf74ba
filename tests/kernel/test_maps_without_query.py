"""AddressSpace.find where the kernel does not answer questions about one address."""

import subprocess
import sys

import pytest
from query_filter import FILTER, NUMBER_OF_IOCTL

PROGRAM = f"""
from memprot import AddressSpace

{FILTER}
space = AddressSpace()
layout = space.snapshot()
for mapping in layout:
    if mapping.path not in (None, "[heap]", "[stack]"):  # those grow while we look
        assert space.find(mapping.start) == space.find(mapping.stop - 1) == mapping, mapping
assert space.find(0) is None
print(len(layout))
"""


def test_the_text_answers_instead() -> None:
    if NUMBER_OF_IOCTL is None:
        pytest.skip("the number of ioctl is not known here")
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        output, _ = process.communicate()
    assert process.returncode == 0
    assert int(output) > 10
