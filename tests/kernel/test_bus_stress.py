"""Threads that use a file while others make it shorter and longer: nobody dies, and nothing is left behind."""

import subprocess
from collections.abc import Callable

RunChild = Callable[..., subprocess.CompletedProcess[str]]

PROGRAM = """
import mmap, os, random, tempfile, threading, warnings
import misbehave
from memprot import PAGE_SIZE, AddressSpace, FaultError, Region, catch_faults
from memprot._native import buffer_range

warnings.simplefilter("ignore")  # a fork beside threads
SIZE = 64 * PAGE_SIZE
file = tempfile.NamedTemporaryFile()
file.truncate(SIZE)
accesses = (mmap.ACCESS_WRITE, mmap.ACCESS_COPY, mmap.ACCESS_READ)
memories = [mmap.mmap(file.fileno(), 0, access=access) for access in accesses]
starts = [buffer_range(memory)[0] for memory in memories]
region = Region.from_file(file.name, "rw-")
done = threading.Event()
raised, causes = [], set()

def mappings():
    return sorted((str(mapping.prot), mapping.shared, mapping.offset, mapping.size)
                  for mapping in AddressSpace() if mapping.path == file.name)

def work(seed):
    random_ = random.Random(seed)
    while not done.is_set():
        which = random_.randrange(3)
        offset = random_.randrange(SIZE - 5 * PAGE_SIZE)
        try:
            with catch_faults():
                match random_.randrange(5):
                    case 0:
                        misbehave.read_bytes(starts[which], SIZE, gil=False)
                    case 1:
                        memories[which][offset]
                    case 2:
                        misbehave.set(starts[which % 2] + offset, seed, 5 * PAGE_SIZE, gil=False)
                    case 3:
                        misbehave.read(region.address + offset, gil=False)
                    case 4:
                        bytes(memories[which])
        except FaultError as fault:
            raised.append(fault.access)
            causes.add(fault.cause)

before = mappings()
threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
for thread in threads:
    thread.start()
random_ = random.Random(7)
for turn in range(200):
    file.truncate(random_.randrange(65) * PAGE_SIZE)
    threading.Event().wait(0.001)
    if turn % 50 == 0:
        child = os.fork()
        if child == 0:
            os._exit(len(mappings()) < len(before))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
done.set()
for thread in threads:
    thread.join()
assert causes == {"bus"}, causes
assert {"read", "write"} == set(raised)
assert mappings() == before, (mappings(), before)
file.truncate(0)
file.truncate(SIZE)
with open(file.name, "r+b") as other:
    other.write(b"Q" * SIZE)
for memory in (*memories, region):
    assert memory[:] == b"Q" * SIZE
"""


def test_it_goes_well_for_any_number_of_threads(run_child: RunChild) -> None:
    child = run_child(PROGRAM, timeout=120)
    assert (child.returncode, child.stderr) == (0, "")


def test_it_goes_well_on_one_processor(run_child: RunChild) -> None:
    pin = "import os\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    child = run_child(pin + PROGRAM, timeout=120)
    assert (child.returncode, child.stderr) == (0, "")
