"""Where a benchmark ran: the last line of its output."""

import datetime
import os
import platform
from importlib.metadata import version
from pathlib import Path


def machine() -> str:
    """Return the processor, CPUs, versions and date in one line."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    flags = next((line for line in lines if line.startswith("flags")), "")
    bfloat16 = ", AVX512-BF16" if "avx512_bf16" in flags else ""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("torch", "torchvision", "lightning")
    )
    python = platform.python_version()
    return f"{name}{bfloat16}, {cpus} CPUs; {versions}, Python {python}; {datetime.date.today()}"
