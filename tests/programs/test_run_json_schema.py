"""What ``memprot run --json`` writes is what ``--json-schema`` says, and no more."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastjsonschema
import pytest

from memprot.faults.record import FaultKind
from memprot.run.options import GUARDS

if TYPE_CHECKING:
    from tests.programs.conftest import Runner

DOCUMENTATION = Path(__file__).parent.parent.parent / "docs" / "json.md"

PROGRAMS = {
    "without a fault": ((), "pass"),
    "raised": ((), "misbehave.write(array.ctypes.data + array.nbytes, 1)"),
    "read by a thread": (
        ("--on-fault", "log"),
        "misbehave.read(array.ctypes.data + array.nbytes, gil=False)",
    ),
    "element": ((), "numpy.lib.stride_tricks.as_strided(array, (12,))[11]"),
    "use after free": (("--quarantine", "1MiB"), "address = numpy.ones(9).ctypes.data; misbehave.write(address, 1)"),
    "slack": (("--side", "left"), "misbehave.write(array.ctypes.data + array.nbytes, 1); del array"),
    "suppressed": (("--suppressions", "all.supp"), "misbehave.write(array.ctypes.data + array.nbytes, 1)"),
    "kernel": (
        ("--on-fault", "log"),
        "os.readv(os.open('/proc/self/exe', 0), [numpy.lib.stride_tricks.as_strided(array, (12,))])",
    ),
    "protection": ((), "region = memprot.Region(4096); region.protect('r--'); misbehave.write(region.address, 1)"),
    "file": (
        (),
        """file = open('short', 'w+b'); file.truncate(8192); view = mmap.mmap(file.fileno(), 8192); file.truncate(1)
with memprot.catch_faults(): view[5000]""",
    ),
    "death": ((), "misbehave.write(8, 1)"),
    "stack overflow": ((), "sys.setrecursionlimit(1 << 30)\ndef f(x): return sorted([x], key=f)\nf(1)"),
    "other allocators": (("--guard", "all"), "bytes(5000)"),
    "aborted": (("--on-fault", "abort"), "misbehave.write(array.ctypes.data + array.nbytes, 1)"),
}

START = """
import mmap, os, sys
import memprot, numpy
import misbehave
array = numpy.zeros(10)
"""


@pytest.fixture(scope="module")
def schema() -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "memprot", "run", "--json-schema", "missing.py"], stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout)


def strict(schema: Any) -> Any:
    """The schema without room for keys that it does not name."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    return {**closed, "additionalProperties": False} if isinstance(schema.get("properties"), dict) else closed


@pytest.mark.parametrize("name", PROGRAMS)
def test_documents_are_as_the_schema_says(runner: "Runner", misbehave_path: Path, schema: Any, name: str) -> None:
    pytest.importorskip("numpy")
    options, body = PROGRAMS[name]
    (runner.folder / "all.supp").write_text("suppression: all\nkind: *\n")
    done = runner.watch(runner.script(START + body), options=options, environment={"PYTHONPATH": str(misbehave_path)})
    fastjsonschema.compile(strict(schema))(done.document)
    told = name not in ("without a fault", "suppressed", "other allocators")
    assert bool(done.document["faults"]) == told, done.stderr


def test_a_document_from_before_the_program_is_as_the_schema_says(runner: "Runner", schema: Any) -> None:
    done = runner.watch("-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert done.document["exit"] is None
    fastjsonschema.compile(strict(schema))(done.document)


def test_a_document_that_lacks_a_key_or_has_a_wrong_value_is_none(runner: "Runner", schema: Any) -> None:
    document = runner.watch("-c", "pass").document
    check = fastjsonschema.compile(schema)
    check({**document, "a key of a later version": 1})
    for key in document:
        with pytest.raises(fastjsonschema.JsonSchemaValueException):
            check({other: value for other, value in document.items() if other != key})
        with pytest.raises(fastjsonschema.JsonSchemaValueException):
            check({**document, key: "nonsense"})


def test_the_schema_names_what_the_code_and_the_documentation_name(schema: Any) -> None:
    text = DOCUMENTATION.read_text()
    definitions = schema["definitions"]
    assert definitions["fault"]["properties"]["kind"]["enum"] == list(FaultKind.__args__)  # type: ignore[attr-defined]
    assert tuple(schema["properties"]["guarded"]["properties"]) == GUARDS
    documented = {name for line in text.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line)}
    for part in (schema, *(definitions[name] for name in ("fault", "object", "counts", "allocated", "freed"))):
        assert set(part["properties"]) <= documented
    told = set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE))
    named = {key for part in (schema, *definitions.values()) for key in part["properties"]}
    assert told <= named
