"""The rules of the house (CONTRIBUTING.md), held by reading the sources."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from memprot import _native

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "src" / "memprot"
CORE = ROOT / "libmemprot"
SOURCE_FOLDERS = ("src", "libmemprot", "libmemprot_malloc", "tests", "tools", "benchmarks", "examples")
SOURCE_SUFFIXES = {".py", ".c", ".h", ".S"}

# The first part of a module's name below memprot, and the floor it lives on.
FLOORS = {
    "_native": 0,
    **dict.fromkeys(
        ("prot", "calls", "errors", "features", "flags", "machine", "printable", "reason", "request", "size"), 1
    ),
    **dict.fromkeys(("space", "model", "diagnosis"), 2),
    **dict.fromkeys(("memory", "faults"), 3),
    **dict.fromkeys(("guard", "watchpoint", "trace"), 4),
    **dict.fromkeys(("view", "run", "pytest_plugin"), 5),
    **dict.fromkeys(("cli", "__main__"), 6),
}
NAMES_THAT_SAY_NOTHING = {"util", "utils", "helper", "helpers", "common", "misc", "manager", "stuff", "tools"}
MOST_LINES = 400
LONGER_FILES: frozenset[str] = frozenset()


def source_files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in SOURCE_SUFFIXES:
                yield path


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def resolve(name: str) -> str | None:
    """The module that an imported dotted name lies in; None outside memprot."""
    if name.split(".")[0] != "memprot":
        return None
    if name.startswith("memprot._native"):
        return "memprot._native"
    while name not in MODULES:
        name = name.rpartition(".")[0]
    return name


def imports(module: str) -> dict[str, int]:
    """Every module of memprot it imports, anywhere in the file, and on which line."""
    found: dict[str, int] = {}
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [node.module])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        for name in names:
            target = resolve(name)
            if target is not None and target != module:
                found.setdefault(target, node.lineno)
    return found


def floor(module: str) -> int:
    return FLOORS[module.split(".")[1]]


INNER_MODULES = [module for module in MODULES if module != "memprot"]


@pytest.mark.parametrize("module", INNER_MODULES)
def test_every_module_has_a_floor_and_imports_only_from_its_own_or_lower(module: str) -> None:
    for target, line in imports(module).items():
        place = f"{MODULES[module].relative_to(ROOT)}:{line}"
        assert target != "memprot", f"{place} imports the public face; import the module that defines the name"
        assert floor(target) <= floor(module), f"{place} looks up from floor {floor(module)} to {target}"


def test_the_model_of_the_kernels_rules_imports_nothing_but_the_vocabulary() -> None:
    for module in (name for name in INNER_MODULES if name.split(".")[1] == "model"):
        outside = {name for name in imports(module) if name.split(".")[1] != "model"}
        assert {name.split(".")[1] for name in outside} <= {"prot", "flags", "errors", "reason"}


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module: set(imports(module)) & set(INNER_MODULES) for module in INNER_MODULES}
    while leaves := [module for module, targets in graph.items() if not targets & set(graph)]:
        for leaf in leaves:
            del graph[leaf]
    assert not graph, f"a circle lies among {sorted(graph)}"


def test_only_the_top_floors_import_by_a_name_in_a_string() -> None:
    """The imports of memprot's own modules read above would not see such a one."""
    hidden = [
        f"{module}:{node.lineno}"
        for module in INNER_MODULES
        for node in ast.walk(ast.parse(MODULES[module].read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith(("import_module", "__import__"))
        and "memprot" in ast.unparse(node)
        if floor(module) < FLOORS["run"]
    ]
    assert hidden == []


@pytest.mark.parametrize("path", list(source_files(*SOURCE_FOLDERS)), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_source_file_is_short_and_has_a_name_that_says_what_it_is(path: Path) -> None:
    relative = path.relative_to(ROOT)
    if str(relative) not in LONGER_FILES:
        lines = len(path.read_text().splitlines())
        assert lines < MOST_LINES, f"{relative} has {lines} lines: it is more than one idea"
    names = {part.lower().partition(".")[0] for part in relative.parts[1:]}
    assert not names & NAMES_THAT_SAY_NOTHING


def test_the_c_core_knows_no_python() -> None:
    for path in source_files("libmemprot"):
        text = path.read_text()
        assert "Python.h" not in text, path
        assert not re.search(r"\bPy[A-Z]\w*_\w+\(|\bPyObject\b", text), path


def test_every_public_symbol_of_the_c_core_carries_its_name() -> None:
    declaration = re.compile(r"^(?!static|typedef|#|//|\s|struct \w+ \{|enum \w+ \{)[\w *]*?\b(\w+)\(", re.MULTILINE)
    for path in CORE.glob("*.h"):
        for name in declaration.findall(path.read_text()):
            assert name.startswith("memprot_"), f"{path.relative_to(ROOT)}: {name}"


def test_every_c_file_of_the_core_has_its_header_and_is_compiled() -> None:
    listed = set(re.findall(r"'(\w+\.c)'", (CORE / "meson.build").read_text()))
    assert {path.name for path in CORE.glob("*.c")} == listed
    for name in listed:
        assert (CORE / name).with_suffix(".h").exists(), f"{name} has no header"


def test_the_manual_of_the_extension_lists_exactly_what_the_extension_has() -> None:
    stub = ast.parse((PACKAGE / "_native.pyi").read_text())
    written: set[str] = set()
    for node in stub.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            written.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            written.add(node.target.id)
    assert {name for name in written if not name.startswith("_")} == {
        name for name in dir(_native) if not name.startswith("_")
    }


def test_every_public_name_of_the_python_files_has_a_docstring_with_an_example() -> None:
    for module in (name for name in INNER_MODULES if floor(name) < FLOORS["cli"]):
        for node in ast.parse(MODULES[module].read_text()).body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            text = inspect.cleandoc(ast.get_docstring(node) or "")
            assert ">>> " in text, f"{module}.{node.name} has no example that runs"
