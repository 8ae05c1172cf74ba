"""Turn the manual of the C extension into a C header: ``docstrings.py _native.pyi docstrings.h``.

Each function, class, method and attribute of the stub becomes ``DOC_name`` or ``DOC_Class_name``: what the
stub says is what ``help()`` shows, and it is written once.
"""

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path


def signature(function: ast.FunctionDef, bound: str) -> str:
    """The signature as inspect reads it from C functions: ``name($module, a, b=1)`` and two dashes."""
    arguments = function.args
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        argument.annotation = None
    names = ast.unparse(arguments)
    if bound == "$self":
        names = names.removeprefix("self").removeprefix(", ")
    return f"{function.name}({', '.join(filter(None, (bound, names)))})\n--\n\n"


def documented(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, str]]:
    for statement in body:
        if isinstance(statement, ast.FunctionDef) and (text := ast.get_docstring(statement)) is not None:
            is_property = any(isinstance(d, ast.Name) and d.id == "property" for d in statement.decorator_list)
            head = "" if is_property else signature(statement, "$self" if prefix else "$module")
            yield prefix + statement.name, head + text
        elif isinstance(statement, ast.ClassDef):
            yield statement.name, ast.get_docstring(statement) or ""
            yield from documented(statement.body, statement.name + "_")


def main(stub: Path, header: Path) -> None:
    lines = ["// Written by tools/docstrings.py from _native.pyi.", "#pragma once", ""]
    for name, text in documented(ast.parse(stub.read_text()).body):
        literal = "\n".join(f"    {json.dumps(line)}" for line in text.splitlines(keepends=True)) or '    ""'
        lines.append(f"static const char DOC_{name}[] __attribute__((unused)) =\n{literal};\n")
    header.write_text("\n".join(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
