"""Run a command in a virtual machine that has what this one may lack: ``run.py FOLDER [options] -- COMMAND...``.

FOLDER is what prepare.py has filled. The machine sees the host's files at their own paths; what it writes is gone
afterwards. What the command prints comes out here and its exit status is this program's; 124 says that the time
was up or too much was printed, 125 that the machine ended without a word.
"""

import argparse
import os
import selectors
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

TIMED_OUT, NO_STATUS = 124, 125
MOST_OUTPUT = 4 << 20
CONSOLE_LINES = 30


def program(folder: Path, path: str, *arguments: str) -> list[str]:
    """A program of the folder, by its own loader with its own libraries."""
    root = folder / "programs/usr"
    library = root / "lib/x86_64-linux-gnu"
    return [str(library / "ld-linux-x86-64.so.2"), "--library-path", str(library), str(root / path), *arguments]


@contextmanager
def running(command: list[str], log: Path, stdout: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=errors)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()


def file_server(folder: Path, socket: Path) -> list[str]:
    # The host's files do not change while the machine runs, so that it may keep what it has read.
    options = ["--sandbox=none", "--seccomp=none", "--cache=always", "--readonly", "--thread-pool-size=0"]
    options += ["--no-announce-submounts", "--inode-file-handles=never"]
    return program(folder, "libexec/virtiofsd", "--shared-dir=/", f"--socket-path={socket}", *options)


def machine(folder: Path, job: Path, options: argparse.Namespace) -> list[str]:
    memory = f"{options.memory}M"
    kernel_line = [
        "root=rootfs rootfstype=virtiofs ro console=ttyS0 quiet panic=-1",
        "mitigations=off init_on_alloc=0 transparent_hugepage=madvise nokaslr tsc=reliable",
        options.kernel_options,
        f"init={folder / 'init'} -- {job} {folder / 'overlay.ko'}",
    ]
    share = folder / "programs/usr/share"
    arguments = ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    arguments += ["-L", str(share / "qemu"), "-L", str(share / "seabios")]
    arguments += ["-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max", "-smp", str(options.cpus)]
    arguments += ["-machine", "q35,sata=off,smbus=off,usb=off,memory-backend=memory", "-m", memory]
    arguments += ["-object", f"memory-backend-memfd,id=memory,size={memory},share=on"]
    arguments += ["-kernel", str(folder / "vmlinuz"), "-append", " ".join(kernel_line)]
    arguments += ["-serial", f"file:{job / 'console'}", "-serial", f"file:{job / 'status'}"]
    arguments += ["-chardev", "stdio,id=output,signal=off", "-device", "virtio-serial-pci"]
    arguments += ["-device", "virtconsole,chardev=output", "-device", "virtio-rng-pci"]
    arguments += ["-chardev", f"socket,id=files,path={job / 'files'}"]
    arguments += ["-device", "vhost-user-fs-pci,chardev=files,tag=rootfs"]
    return program(folder, "bin/qemu-system-x86_64", *arguments)


def wait_for(path: Path, process: subprocess.Popen[bytes], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while not path.exists():
        if process.poll() is not None or time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def pass_on(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Print what the machine prints until it ends; False when it takes too long or prints too much."""
    assert process.stdout is not None
    end, left = time.monotonic() + seconds, MOST_OUTPUT
    with selectors.DefaultSelector() as ready:
        ready.register(process.stdout, selectors.EVENT_READ)
        while (remaining := end - time.monotonic()) > 0 and left > 0:
            if not ready.select(remaining):
                continue
            data = os.read(process.stdout.fileno(), 1 << 16)
            if not data:
                process.wait()
                return True
            sys.stdout.buffer.write(data[:left])
            sys.stdout.buffer.flush()
            left -= len(data)
    return False


def script(options: argparse.Namespace) -> str:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TERM") if name in os.environ}
    variables = [f"{name}={value}" for name, value in {**kept, "LC_ALL": "C.UTF-8"}.items()]
    command = shlex.join([*variables, *options.environment, *options.command])
    return f"cd {shlex.quote(os.getcwd())}\nexec env -i {command}\n"


def run(options: argparse.Namespace) -> int:
    folder = options.folder.resolve()
    with ExitStack() as stack:
        job = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vm-")))
        (job / "command").write_text(script(options))
        server = stack.enter_context(running(file_server(folder, job / "files"), job / "server.log"))
        if not wait_for(job / "files", server):
            print(f"virtiofsd does not start: {(job / 'server.log').read_text()}", file=sys.stderr)
            return NO_STATUS
        command = machine(folder, job, options)
        qemu = stack.enter_context(running(command, job / "qemu.log", subprocess.PIPE))
        in_time = pass_on(qemu, options.timeout)
        status = (job / "status").read_text() if (job / "status").exists() else ""
        if not in_time:
            print(f"the machine is stopped after {options.timeout:g} s or {MOST_OUTPUT} bytes", file=sys.stderr)
            return TIMED_OUT
        if status.strip().isdecimal() and int(status) != NO_STATUS:
            return int(status)
        for log in ("qemu.log", "server.log", "console"):
            text = (job / log).read_text(errors="replace") if (job / log).exists() else ""
            print(f"--- {log}", *text.splitlines()[-CONSOLE_LINES:], sep="\n", file=sys.stderr)
        return NO_STATUS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--memory", type=int, default=2048, help="in MiB")
    parser.add_argument("--timeout", type=float, default=300, help="in seconds")
    parser.add_argument("--environment", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--kernel-options", default="", help="see kernel-parameters.txt of the kernel")
    parser.add_argument("command", nargs="+")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
