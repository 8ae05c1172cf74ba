"""A fault as data: whose line it is, and JSON that any reader understands."""

import json
import os
import site
import sysconfig
from types import SimpleNamespace

import pytest

from memprot.faults.document import fault_document
from memprot.faults.origin import is_program_file
from memprot.faults.record import Block, FaultRecord, FaultThread, NativeFrame, PythonFrame
from memprot.run.json_text import json_text

THREAD = FaultThread(4242, None)


@pytest.mark.parametrize(
    ("file", "own"),
    [
        ("/home/me/app.py", True),
        ("app.py", True),
        ("<string>", True),
        ("<stdin>", True),
        ("<frozen importlib._bootstrap>", False),
        (os.__file__, False),
        (json.__file__, False),
        (os.path.join(sysconfig.get_path("purelib"), "numpy", "__init__.py"), False),
        (os.path.join(site.getsitepackages()[0], "single.py"), False),
        (os.path.dirname(os.__file__) + "-of-mine/app.py", True),
    ],
)
def test_the_programs_files_are_told_from_libraries_by_their_path(file: str, own: bool) -> None:
    assert is_program_file(file) is own


def test_an_allocation_is_named_by_its_innermost_line_outside_libraries() -> None:
    library = PythonFrame(os.__file__, 1, "walk")
    mine = PythonFrame("/home/me/app.py", 12, "main")
    frames = (library, mine, PythonFrame("/home/me/app.py", 20, "<module>"))
    for allocated, expected in ((frames, ("/home/me/app.py", 12, "main")), ((library,), (None, None, None))):
        block = Block(4096, 13, allocated, None, None, None)
        record = FaultRecord("overflow", "write", 1, 4109, 0, True, 11, block, None, (), THREAD, None)
        told = fault_document(record)["object"]
        assert isinstance(told, dict)
        where = told["allocated"]
        assert isinstance(where, dict)
        assert (where["file"], where["line"], where["function"]) == expected
        assert isinstance(where["stack"], list)
        assert len(where["stack"]) == len(allocated)


def test_what_is_unknown_is_null_and_never_left_out() -> None:
    block = Block(4096, 13, (), None, None, None)
    frame = NativeFrame(1, None, None, None)
    mapping = SimpleNamespace(start=4096, stop=8192, prot="rw-", path=None)
    record = FaultRecord("slack", "write", None, 4109, None, False, 0, block, None, (frame,), THREAD, mapping)
    assert fault_document(record, 3) == {
        "kind": "slack",
        "access": "write",
        "key": None,
        "size": None,
        "address": "0x100d",
        "distance": None,
        "count": 3,
        "recovered": False,
        "signal": None,
        "element": None,
        "object": {
            "nbytes": 13,
            "dtype": None,
            "shape": None,
            "name": None,
            "allocator": None,
            "allocated": None,
            "freed": None,
        },
        "python": None,
        "native": [{"function": None, "library": None, "offset": None, "file": None, "line": None}],
        "thread": {"id": 4242, "name": None},
        "instruction": None,
        "value": None,
        "time": None,
        "mapping": {"start": "0x1000", "stop": "0x2000", "prot": "rw-", "path": None},
        "file": None,
        "call": None,
        "depth": None,
    }


def test_the_json_is_what_the_standard_library_writes() -> None:
    value = {"a\n\udcff\u202e": [None, True, False, -1, 2**70, "\x00é"], "empty": [{}, []]}
    assert json_text(value) == json.dumps(value)  # type: ignore[arg-type]


def test_what_json_cannot_hold_is_refused() -> None:
    with pytest.raises(TypeError, match="float has no form in JSON"):
        json_text(1.5)  # type: ignore[arg-type]
