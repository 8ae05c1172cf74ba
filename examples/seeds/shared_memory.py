"""POSIX shared memory of two processes; one makes it read-only, for itself alone.

Protection belongs to a mapping, and each process has its own. The reader opens the segment, forbids itself to
write to it and is held to that; the writer does not notice, and what it writes arrives at the reader all the same.
"""

import os
import subprocess
import sys

from memprot import PAGE_SIZE, FaultError, Region, calls


def map_segment(name: str, flags: int) -> Region:
    """The segment of that name, mapped for reading and writing."""
    with open(calls.shm_open(name, flags), "r+b", buffering=0) as file:
        if flags & os.O_CREAT:
            file.truncate(PAGE_SIZE)
        return Region.from_file(file, "rw-", shared=True)


def write(who: str, segment: Region, text: bytes) -> None:
    try:
        segment[: len(text)] = text
        print(f"{who} ({segment.prot}): wrote {text.decode()}", flush=True)
    except FaultError as fault:
        print(f"{who} ({segment.prot}): FaultError, a {fault.access} is forbidden here", flush=True)


def reader(name: str) -> None:
    with map_segment(name, os.O_RDWR) as segment:
        print(f"reader ({segment.prot}): read {segment.read(0, 5).decode()}")
        segment.protect("r--")
        write("reader", segment, b"shout")
        sys.stdin.readline()  # The writer has written again.
        print(f"reader ({segment.prot}): read {segment.read(0, 5).decode()}")


def main() -> None:
    name = f"/memprot-example-{os.getpid()}"
    try:
        with map_segment(name, os.O_RDWR | os.O_CREAT | os.O_EXCL) as segment:
            write("writer", segment, b"hello")
            command = [sys.executable, __file__, name]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
                assert child.stdin is not None
                assert child.stdout is not None
                print(child.stdout.readline() + child.stdout.readline(), end="")
                write("writer", segment, b"again")
                print(child.communicate("\n")[0], end="")
    finally:
        calls.shm_unlink(name)


if __name__ == "__main__":
    if sys.argv[1:]:
        reader(sys.argv[1])
    else:
        main()
