"""Code that others compile: callbacks, numba, Cython, PyTorch; and tensors over memory that is protected."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from neighbour import SETUP, needs, printed

RunChild = Callable[..., subprocess.CompletedProcess[str]]


def test_a_callback_of_ctypes_may_fault_and_raises_behind_the_call(run_child: RunChild) -> None:
    """What is raised in a callback ends there; the scope keeps it and raises where it ends."""
    child = run_child(f"""{SETUP}
Compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
calls = []
@Compare
def compare(a, b):
    calls.append(1)
    if len(calls) == 2:
        ctypes.memset(region.address + 3, 1, 1)
    return a[0] - b[0]
numbers = (ctypes.c_int * 5)(5, 4, 3, 2, 1)
try:
    with catch_faults() as scope:
        ctypes.CDLL(None).qsort(numbers, 5, ctypes.sizeof(ctypes.c_int), compare)
except FaultError as fault:
    print(fault.offset, len(scope.faults), len(calls) > 2, region.read() == bytes(10), raises())
""")
    assert printed(child) == "3 1 True True True"


def test_a_scope_inside_a_callback_of_ctypes_raises_inside_it(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}
results = []
@ctypes.CFUNCTYPE(None)
def callback():
    results.append(raises() and raises(gil=False))
with catch_faults() as scope:
    callback()
ctypes.PYFUNCTYPE(None)(ctypes.cast(callback, ctypes.c_void_p).value)()
print(results, scope.faults)
""")
    assert printed(child) == "[True, True] ()"


@needs("cffi")
def test_a_callback_of_cffi_may_fault(run_child: RunChild) -> None:
    child = run_child(f"""{SETUP}
import cffi
ffi = cffi.FFI()
ffi.cdef("void qsort(void *, size_t, size_t, int (*)(const void *, const void *)); void *memset(void *, int, size_t);")
libc = ffi.dlopen(None)
good = []
@ffi.callback("int(const void *, const void *)")
def compare(a, b):
    try:
        with catch_faults():
            libc.memset(ffi.cast("void *", region.address + 2), 1, 1)
    except FaultError as fault:
        good.append(fault.offset == 2)
    return ffi.cast("int *", a)[0] - ffi.cast("int *", b)[0]
numbers = ffi.new("int[]", [3, 2, 1])
with catch_faults() as scope:
    libc.qsort(numbers, 3, 4, compare)
print(list(numbers), len(good) > 1 and all(good), scope.faults, raises())
""")
    assert printed(child) == "[1, 2, 3] True () True"


@needs("numba")
def test_compiled_by_numba_code_is_stopped_as_c_is(run_child: RunChild) -> None:
    child = run_child(
        f"""{SETUP}
import numba, numpy
big = Region(16 * PAGE_SIZE)
array = numpy.frombuffer(big, dtype=numpy.float64)
array[:] = 2
big.protect("r--")
array.flags.writeable = True
@numba.njit(parallel=False)
def scale(values, by):
    for index in range(values.size):
        values[index] *= by
    return values.sum()
@numba.njit(nogil=True)
def scale_without_lock(values, by):
    for index in range(values.size):
        values[index] *= by
for function in (scale, scale_without_lock):
    function(numpy.ones(3), 1.0)
    try:
        with catch_faults():
            function(array, 3.0)
    except FaultError as fault:
        print(fault.offset, bool((array == 2).all()))
print(raises(), scale(numpy.ones(3), 4.0))
""",
        timeout=120,
    )
    assert printed(child) == "0 True\n0 True\nTrue 12.0"


CYTHON = """
cpdef void set_first(double[::1] values, double to) noexcept nogil:
    cdef Py_ssize_t index
    for index in range(values.shape[0]):
        values[index] = to

def call_back(function):
    return function()
"""


@needs("Cython")
def test_modules_that_cython_built_are_stopped_as_c_is(run_child: RunChild, tmp_path: Path) -> None:
    (tmp_path / "compiled.pyx").write_text(CYTHON)
    subprocess.run([sys.executable, "-m", "cython", "-3", "compiled.pyx"], cwd=tmp_path, check=True)
    include = subprocess.check_output(
        [sys.executable, "-c", "import sysconfig; print(sysconfig.get_path('include'))"], text=True
    ).strip()
    build = ["cc", "-shared", "-fPIC", "-O2", "-w", f"-I{include}", "-o", "compiled.so", "compiled.c"]
    subprocess.run(build, cwd=tmp_path, check=True)
    child = run_child(f"""{SETUP}
sys.path.insert(0, {str(tmp_path)!r})
import compiled
big = Region(4 * PAGE_SIZE)
view = memoryview(big).cast("d")
big.protect("r--")
try:
    with catch_faults():
        compiled.set_first(view, 3.0)
        print("set", end=" ")
except FaultError as fault:
    print(fault.offset, big.read() == bytes(big.size))
print(compiled.call_back(raises), raises())
""")
    assert printed(child).removeprefix("set ") == "0 True\nTrue True"


TORCH = f"""{SETUP}
sys.path[:0] = sys.argv[1:]
import numpy, torch
big = Region(16 * PAGE_SIZE)
array = numpy.frombuffer(big, dtype=numpy.float32)
tensor = torch.from_numpy(array)
tensor.fill_(2.0)
big.protect("r--")
def stopped(act):
    try:
        with catch_faults():
            act()
    except FaultError as fault:
        return fault.access == "write" and fault.region is big and bool((array == 2).all())
    return False
other = torch.ones(tensor.shape)
print(stopped(lambda: tensor.fill_(1.0)), stopped(lambda: tensor.add_(1)), stopped(lambda: tensor.copy_(other)),
      stopped(lambda: torch.mul(tensor, 2, out=tensor)), stopped(lambda: tensor.__setitem__(5, 1.0)),
      float(tensor.sum()) == 2.0 * tensor.numel(), raises())
big.protect("---")
try:
    with catch_faults():
        tensor.sum()
except FaultError as fault:
    print(fault.access)
big.protect("rw-")
tensor.fill_(4.0)
print(float(array[0]), raises())
foreign = torch.ones(1 << 20)
from memprot import protected
array = foreign.numpy()
first = -array.ctypes.data % PAGE_SIZE // array.itemsize
with protected(array[first : first + 8 * PAGE_SIZE], "r--"):  # pages that hold nothing but the tensor's numbers
    try:
        with catch_faults():
            foreign.zero_()
    except FaultError as fault:
        print(fault.access, bool((array[first : first + 8 * PAGE_SIZE] == 1).all()), bool((array[:first] == 0).all()))
torch.set_num_threads(4)
large = Region(16 << 20)
array = numpy.frombuffer(large, dtype=numpy.float32)
tensor = torch.from_numpy(array)
tensor.fill_(2.0)
large.protect("r--")
try:
    with catch_faults():
        tensor.add_(1)  # by the threads of OpenMP, which know nothing of Python
except FaultError as fault:
    all_faults = (fault, *fault.others)
    print(all(each.region is large and each.access == "write" for each in all_faults), bool((array == 2).all()))
def parallel():
    left, right = torch.rand(200, 200), torch.rand(200, 200)
    return bool(torch.isfinite(left @ right).all())
print(parallel(), raises(), parallel())
"""


def torchs_folders() -> list[str] | None:
    """Where torch can be imported from: here, or as Debian's package where that is for this Python's version."""
    probe = "import sys; print(sys.version_info[:2]); import numpy, torch; print(torch.__file__)"
    for python in (sys.executable, "/usr/bin/python3"):
        if Path(python).exists():
            done = subprocess.run([python, "-c", probe], capture_output=True, text=True)
            if done.returncode == 0 and done.stdout.startswith(str(sys.version_info[:2])):
                return [] if python == sys.executable else [str(Path(done.stdout.split("\n")[1]).parent.parent)]
    return None


@pytest.fixture(scope="module")
def torch_path() -> list[str]:
    folders = torchs_folders()
    if folders is None:
        pytest.skip(
            "PyTorch is not installed for this Python; make neighbours installs Debian's where the versions agree"
        )
    return folders


def test_torch_tensors_over_protected_memory_are_stopped(run_child: RunChild, torch_path: list[str]) -> None:
    child = run_child(TORCH, *torch_path, timeout=120)
    assert printed(child).splitlines() == [
        "True True True True True True True",
        "read",
        "4.0 True",
        "write True True",
        "True True",
        "True True True",
    ]
