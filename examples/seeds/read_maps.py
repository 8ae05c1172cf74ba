"""/proc/PID/maps, each line as the kernel wrote it and below it what it says.

    python read_maps.py PID

explains the mappings of any process you may look at; without a PID those of a small ``cat`` that is started
for the purpose. The line and its explanation come by different ways: the text from the file, the rest from
``AddressSpace``, one ``Mapping`` for each line.
"""

import os
import subprocess
import sys
from pathlib import Path

from memprot import AddressSpace, Mapping, Prot

MAY = {Prot.READ: "read", Prot.WRITE: "written", Prot.EXEC: "run"}
KINDS = {
    "anonymous": "memory of no file",
    "heap": "the heap, whose end brk moves",
    "stack": "the stack of the main thread",
    "vdso": "system calls that need not enter the kernel, as a library the kernel brings along",
    "vvar": "the data of those calls, such as the clock",
    "vsyscall": "the ancestor of the vdso at its fixed address; nothing that mprotect could change",
}


def explain(mapping: Mapping) -> str:
    """One mapping in words."""
    verbs = [verb for flag, verb in MAY.items() if mapping.prot & flag]
    access = f"may be {' and '.join(verbs)}" if verbs else "may not be touched"
    sharing = "shared with all who map it" if mapping.shared else "private: writes stay here"
    if mapping.path is not None and mapping.inode:
        what = f"{os.path.basename(mapping.path)} from byte {mapping.offset:#x} on"
        if mapping.deleted:
            what += ", a file without a name"
    else:
        what = KINDS.get(mapping.kind, mapping.kind)
    return f"{len(mapping) // 1024} KiB, {access}; {sharing}; {what}"


def show(pid: int) -> None:
    space = AddressSpace(pid)
    text = Path(f"/proc/{pid}/maps").read_text()
    lines = {int(line.partition("-")[0], 16): line for line in text.splitlines()}
    for mapping in space:
        if mapping.start in lines:  # A process that runs may have changed it between the two readings.
            print(lines[mapping.start])
            print(f"    {explain(mapping)}")


def main(arguments: list[str]) -> None:
    if arguments:
        show(int(arguments[0]))
        return
    environment = {**os.environ, "LC_ALL": "C"}  # Other languages are a dozen more files.
    with subprocess.Popen("cat", env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as cat:
        assert cat.stdin is not None
        assert cat.stdout is not None
        # Once it answers, it has loaded its libraries and waits: the two readings find the same mappings.
        cat.stdin.write(b"are you there?\n")
        cat.stdout.readline()
        show(cat.pid)
        cat.stdin.close()


if __name__ == "__main__":
    main(sys.argv[1:])
