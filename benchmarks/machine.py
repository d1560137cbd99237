"""Where a benchmark ran: the last line of its output."""

import datetime
import os
import platform
from importlib.metadata import version
from pathlib import Path


def cpu_info() -> list[str]:
    info = Path("/proc/cpuinfo")
    return info.read_text().splitlines() if info.is_file() else []


def processor() -> str:
    names = [line.partition(": ")[2] for line in cpu_info() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def num_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine() -> str:
    """Return the processor, CPUs, versions and date in one line."""
    flags = next((line for line in cpu_info() if line.startswith("flags")), "")
    bfloat16 = ", AVX512-BF16" if "avx512_bf16" in flags else ""
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("torch", "torchvision", "lightning")
    )
    python = platform.python_version()
    where = f"{processor()}{bfloat16}, {num_cpus()} CPUs"
    return f"{where}; {versions}, Python {python}; {datetime.date.today()}"
