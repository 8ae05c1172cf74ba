"""Fetch what the virtual machine is made of: ``prepare.py FOLDER``. Nothing is installed on the host.

QEMU and virtiofsd come with every library they need, so that the host may be any distribution with apt. Where
they cannot be had, one line says why and the exit status is 69 (EX_UNAVAILABLE in sysexits.h).
"""

import lzma
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

RELEASE = "trixie"
KERNEL = "7.3.4+deb13-cloud-amd64"  # when the mirror has it no more, the newest one it has
PROGRAMS = ("qemu-system-x86", "virtiofsd")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
UNAVAILABLE = 69


class UnavailableError(Exception):
    """There can be no virtual machine on this host; the text says why."""


def output_of(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()
        raise UnavailableError(f"{Path(command[0]).name}: {said[-1]}")
    return done.stdout


def mirror() -> str:
    """The Debian mirror that the host's own apt uses, or else Debian's."""
    sites = output_of("apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages").split()
    ours = [site for site in dict.fromkeys(sites) if site.endswith("/debian")]
    return ours[0] if ours else "http://deb.debian.org/debian"


class Archive:
    """One Debian release as apt sees it from a folder of its own, on a host where no package is installed yet."""

    def __init__(self, folder: Path) -> None:
        for inner in ("lists/partial", "archives/partial"):
            (folder / inner).mkdir(parents=True, exist_ok=True)
        suites = f"{RELEASE} {RELEASE}-backports"
        (folder / "sources.list").write_text(
            "".join(f"deb [arch=amd64 signed-by={KEYRING}] {mirror()} {suite} main\n" for suite in suites.split())
        )
        options = {
            "Dir::State::Lists": folder / "lists",
            "Dir::State::status": "/dev/null",
            "Dir::Etc::SourceList": folder / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Cache": folder,
            "APT::Architecture": "amd64",
            "APT::Sandbox::User": "",
            "Acquire::Languages": "none",
            "Acquire::Retries": 1,
            "Acquire::http::Timeout": 30,
            "Debug::NoLocking": "true",
        }
        self.options = [f"-o{name}={value}" for name, value in options.items()]
        output_of("apt-get", *self.options, "-qq", "--error-on=any", "update")
        self.archives = folder / "archives"

    def kernel(self) -> str:
        """The version of the kernel to take, as in the names of its packages."""
        names = output_of("apt-cache", *self.options, "search", "--names-only", r"^linux-image-[0-9].*-cloud-amd64$")
        versions = [name.partition(" ")[0].removeprefix("linux-image-") for name in names.splitlines()]
        if not versions:
            raise UnavailableError(f"{mirror()} has no kernel for clouds in {RELEASE}")
        newest = max(versions, key=lambda version: [int(number) for number in re.findall(r"\d+", version)])
        return KERNEL if KERNEL in versions else newest

    def fetch(self, *names: str) -> list[Path]:
        """The packages of these names and all they depend on."""
        options = ["-qq", "--yes", "--no-install-recommends", "--download-only"]
        output_of("apt-get", *self.options, *options, "install", *names)
        return sorted(self.archives.glob("*.deb"))

    def fetch_kernel(self, version: str) -> list[Path]:
        """The packages that hold its files: newer kernels have the image and the modules apart."""
        apart = [f"linux-binary-{version}", f"linux-modules-{version}"]
        try:
            output_of("apt-cache", *self.options, "show", *apart)
            names = apart
        except UnavailableError:
            names = [f"linux-image-{version}"]
        before = set(Path.cwd().glob("*.deb"))
        output_of("apt-get", *self.options, "-qq", "download", *names)
        return sorted(set(Path.cwd().glob("*.deb")) - before)


def only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.rglob(pattern))
    if not found:
        raise UnavailableError(f"the packages hold no {pattern}")
    return found[0]


def prepare(folder: Path) -> str:
    """Fill the folder; return the kernel's version."""
    if os.uname().machine != "x86_64":
        raise UnavailableError(f"its programs are those of x86_64, and this is {os.uname().machine}")
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise UnavailableError(f"{program} is needed to fetch it")
    if not KEYRING.exists():
        raise UnavailableError(f"there is no {KEYRING} (package debian-archive-keyring)")
    shutil.rmtree(folder, ignore_errors=True)
    download = folder / "download"
    download.mkdir(parents=True)
    archive = Archive(download)
    version = archive.kernel()
    os.chdir(download)
    for package in archive.fetch_kernel(version):
        output_of("dpkg-deb", "--extract", package, folder / "kernel")
    for package in archive.fetch(*PROGRAMS):
        output_of("dpkg-deb", "--extract", package, folder / "programs")
    os.chdir(folder)
    only(folder / "kernel", "vmlinuz*").rename(folder / "vmlinuz")
    overlay = only(folder / "kernel", "overlay.ko.xz")
    (folder / "overlay.ko").write_bytes(lzma.decompress(overlay.read_bytes()))
    shutil.rmtree(folder / "kernel")
    shutil.rmtree(download)
    (folder / "version").write_text(version + "\n")
    return version


def main() -> int:
    folder = Path(sys.argv[1]).absolute()
    try:
        print(f"a virtual machine with Linux {prepare(folder)} is in {folder}")
    except UnavailableError as why:
        print(f"no virtual machine can be made here: {why}", file=sys.stderr)
        return UNAVAILABLE
    return 0


if __name__ == "__main__":
    sys.exit(main())
