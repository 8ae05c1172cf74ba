"""Libraries whose own business is SIGSEGV: cysignals, GNU libsigsegv, and the Java virtual machine."""

import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from neighbour import SETUP, needs, printed

RunChild = Callable[..., subprocess.CompletedProcess[str]]
WITH_ORDERS = pytest.mark.parametrize("first", ["it", "memprot"])

CYSIGNALS = """
import cysignals.signals, cysignals.tests
def it_recovers():
    try:
        cysignals.tests.test_dereference_null_pointer()
    except cysignals.signals.SignalError as error:
        return "Segmentation fault" in str(error)
    return False
"""


@needs("cysignals")
@WITH_ORDERS
def test_cysignals_goes_on_to_raise_for_its_own_blocks(run_child: RunChild, first: str) -> None:
    child = run_child(f"""
{CYSIGNALS if first == "it" else ""}
{SETUP}
{CYSIGNALS if first != "it" else ""}
print(*(f() for _ in range(20) for f in (it_recovers, raises)))
with catch_faults() as scope:
    print(it_recovers(), raises(), it_recovers(), scope.faults)
region.close()
print(it_recovers())
""")
    assert printed(child).splitlines() == [" ".join(["True"] * 40), "True True True ()", "True"]


@needs("cysignals")
@WITH_ORDERS
def test_a_fault_outside_the_blocks_of_cysignals_gets_its_report(run_child: RunChild, first: str) -> None:
    child = run_child(f"""
{CYSIGNALS if first == "it" else ""}
{SETUP}
{CYSIGNALS if first != "it" else ""}
print(it_recovers(), raises(), flush=True)
misbehave.null_write()
""")
    assert (child.returncode, child.stdout) == (-signal.SIGSEGV, "True True\n")
    assert "Unhandled SIGSEGV" in child.stderr


@pytest.fixture(scope="module")
def sigsegv_user(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("sigsegv") / "libsigsegv_user.so"
    source = Path(__file__).parent.parent / "native" / "sigsegv_user.c"
    if subprocess.run(["cc", "-E", "-include", "sigsegv.h", "-xc", "/dev/null"], capture_output=True).returncode:
        pytest.skip("libsigsegv-dev is not installed; make neighbours installs it")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", target, source, "-lsigsegv"], check=True)
    return target


@WITH_ORDERS
def test_libsigsegv_goes_on_to_recover_its_own_faults(run_child: RunChild, first: str, sigsegv_user: Path) -> None:
    begin = f"import ctypes; library = ctypes.CDLL({str(sigsegv_user)!r}); begun = library.sigsegv_user_begin()"
    child = run_child(f"""
{begin if first == "it" else ""}
{SETUP}
{begin if first != "it" else ""}
print(begun, *((library.sigsegv_user_write(), raises()) for _ in range(3)))
with catch_faults() as scope:
    print(library.sigsegv_user_write(), raises(), scope.faults)
library.sigsegv_user_end()
print(raises(), flush=True)
misbehave.null_write()
""")
    told = "0 (1, True) (2, True) (3, True)\n4 True ()\nTrue\n"
    assert (child.returncode, child.stdout) == (-signal.SIGSEGV, told), child.stderr


# A call on null reads the first page, and the virtual machine's handler makes a NullPointerException of that.
JAVA = """
import jpype
jpype.startJVM("-Xrs", "-Xint" if "interpreted" in sys.argv else "-XX:+UseSerialGC", convertStrings=False)
text = jpype.JString("abc")
Null = jpype.JClass("java.lang.NullPointerException")
def it_recovers():
    try:
        text.concat(None)
    except Null:
        return True
    return False
"""
with_java = pytest.mark.skipif(
    shutil.which("java") is None, reason="no Java is installed; make neighbours installs Debian's default-jre-headless"
)


@needs("jpype")
@with_java
@pytest.mark.parametrize("mode", ["compiled", "interpreted"])
@WITH_ORDERS
def test_java_goes_on_to_make_exceptions_of_its_faults(run_child: RunChild, first: str, mode: str) -> None:
    """In two threads at once: Java's null pointers in one, Python's blocked writes in the other."""
    java = JAVA if first == "it" else f"raises()\n{JAVA}"
    setup = f"import sys\n{JAVA}{SETUP}" if first == "it" else f"{SETUP}{java}"
    child = run_child(
        f"""{setup}
print(it_recovers(), raises(), it_recovers(), raises())
results = []
def work():
    results.extend(it_recovers() for _ in range(5000))
thread = threading.Thread(target=work)
thread.start()
mine = []
while thread.is_alive():
    mine.append(raises(gil=len(mine) % 2 == 0))
thread.join()
System = jpype.JClass("java.lang.System")
System.gc()
print(all(results), len(results), all(mine), len(mine) > 0)
with catch_faults() as scope:
    System.gc()
    print(it_recovers(), raises(), scope.faults)
region.close()
print(all(it_recovers() for _ in range(100)))
""",
        mode,
        timeout=120,
    )
    assert printed(child).splitlines() == ["True True True True", "True 5000 True True", "True True ()", "True"]


@needs("jpype")
@with_java
@pytest.mark.parametrize("stack", [(), ("-Xfaulthandler",)], ids=["plain", "with an alternate stack"])
def test_java_goes_on_to_make_exceptions_of_its_stack_overflows(run_child: RunChild, stack: tuple[str, ...]) -> None:
    """It learns of them by faults on the guard pages that it puts into the stack of each thread it runs in."""
    child = run_child(
        f"""{SETUP}
{JAVA}
Overflow = jpype.JClass("java.lang.StackOverflowError")
matches, subject = jpype.JClass("java.util.regex.Pattern").matches, "ab" * 200_000
def overflows():
    try:
        matches("(a|b)*", subject)
    except Overflow:
        return raises()
    return False
results = [overflows(), overflows()]
thread = threading.Thread(target=lambda: results.extend([overflows(), overflows()]))
thread.start()
thread.join()
print(results, it_recovers())
""",
        python=stack,
        timeout=120,
    )
    assert printed(child) == "[True, True, True, True] True"


@needs("jpype")
@with_java
def test_a_fault_that_is_nobodys_still_ends_a_process_with_java_in_it(run_child: RunChild, tmp_path: Path) -> None:
    child = run_child(
        f"""{SETUP}
os.chdir({str(tmp_path)!r})
{JAVA}
print(raises(), it_recovers(), flush=True)
misbehave.null_write()
""",
        timeout=120,
    )
    assert child.returncode in (-signal.SIGSEGV, -signal.SIGABRT)
    assert child.stdout.startswith("True True\n")
