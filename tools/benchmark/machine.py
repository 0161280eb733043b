"""Describe the machine and the versions that were measured, without names or addresses."""

import os
import platform
from importlib.metadata import version
from mmap import PAGESIZE, mmap
from pathlib import Path

_PACKAGES = (
    "uvicorn",
    "uvloop",
    "httptools",
    "fastapi",
    "aiohttp",
    "gunicorn",
    "flask",
    "msgspec",
    "numpy",
    "scipy",
    "gwpy",
)


def describe_machine(home: Path) -> str:
    """Return one line about the machine and the file system of `home`."""
    return (
        f"{len(os.sched_getaffinity(0))} cores ({_cpu_model()}), {_memory() / 2**30:.0f} GiB memory, "
        f"{_file_system(home)}, Linux {platform.release()}; load average at the start {os.getloadavg()[0]:.2f}"
    )


def describe_versions() -> str:
    """Return one line with the versions of the packages."""
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return f"GlitchFlow Datastore {version('glitchflow-datastore')}, Python {platform.python_version()}, {packages}"


def use_memory(size: int) -> None:
    """Use some bytes of memory once, or half of what is free.

    A virtual machine gets each page from its host at the first use, which costs several times what writing to it costs
    later: without this, the first copies of files are measured slower than the next.
    """
    with mmap(-1, min(size, os.sysconf("SC_AVPHYS_PAGES") * PAGESIZE // 2)) as memory:
        for place in range(0, len(memory), PAGESIZE):
            memory[place] = 1


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _file_system(folder: Path) -> str:
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    folder = folder.resolve()
    holding = [(len(place), kind) for place, kind in mounts if folder.is_relative_to(place)]
    return max(holding)[1] if holding else "an unknown file system"
