"""Runs on every node of the probe job of make preflight, and writes what it finds as JSON.

    srun $PYTHON <run folder>/code/src/main.py <run folder>

It only looks; tools/site_checks/probe.py judges. The file is written again after each step, so that
a step that crashes or hangs takes nothing with it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from importlib import import_module, metadata
from pathlib import Path

RANK = int(os.environ.get("SLURM_PROCID", "0"))
NODES = int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))
RUN = Path(sys.argv[1] if len(sys.argv) > 1 else ".")  # the run folder
PATIENCE = 60.0  # seconds to wait for another node
WRITTEN_MB = 64  # about as much as a checkpoint
MODULES = (
    "torch",
    "torchvision",
    "lightning",
    "torchmetrics",
    "tensorboard",
    "matplotlib",
    "sklearn",
)
SITES = ("https://download.pytorch.org", "https://github.com")
facts: dict[str, object] = {}


def save(**values: object) -> None:
    facts.update(values)
    part = RUN / f".node-{RANK}.part"
    part.write_text(json.dumps(facts))
    part.replace(RUN / f"node-{RANK}.json")


def reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:500]


def look_around() -> None:
    """Note what needs no waiting."""
    job = ["scontrol", "--oneliner", "show", "job", os.environ.get("SLURM_JOB_ID", "0")]
    try:
        shown = subprocess.run(job, capture_output=True, text=True, timeout=20).stdout
        flag = re.search(r"\bRequeue=(\d)", shown)
        requeue = flag[1] if flag else "unknown"
    except (OSError, subprocess.TimeoutExpired):
        requeue = "no scontrol"
    save(
        host=os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
        nodes=NODES,
        python=sys.version.split()[0],
        executable=sys.executable,
        requeue=requeue,
        modules=os.environ.get("LOADEDMODULES", ""),
        cpus_asked=int(os.environ.get("SLURM_CPUS_PER_TASK", "1")),
        cpus=len(os.sched_getaffinity(0)),
        mem_asked_mb=int(os.environ.get("SLURM_MEM_PER_NODE", "0")),
        mem_limit_mb=memory_limit(),
        shm_mb=free_mb("/dev/shm"),
        disk_free_mb=free_mb(RUN),
        folder=str(Path.cwd()),
    )


def free_mb(folder: str | Path) -> int:
    """Return the free space of a file system in MB; -1 if the folder is missing."""
    try:
        return shutil.disk_usage(folder).free >> 20
    except OSError:
        return -1


def memory_limit() -> int:
    """Return the lowest limit of the control groups around this process in MB; 0 if none."""
    limits = []
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return 0
    for line in groups:
        _, names, path = line.split(":", 2)
        if names not in ("", "memory"):
            continue
        top = Path("/sys/fs/cgroup", names)
        file = "memory.limit_in_bytes" if names else "memory.max"
        place = top / path.lstrip("/")
        for folder in [place, *place.parents]:
            try:
                limits.append(int((folder / file).read_text()) >> 20)
            except (OSError, ValueError):
                continue
    return min((limit for limit in limits if limit < 1 << 30), default=0)


def try_disk() -> None:
    """Write a file as large as a checkpoint, and remove it."""
    path = RUN / f"large-{RANK}"
    began, problem = time.monotonic(), ""
    try:
        with path.open("wb") as file:
            for _ in range(WRITTEN_MB):
                file.write(os.urandom(1 << 20))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        problem = reason(error)
    finally:
        path.unlink(missing_ok=True)
    save(write_error=problem, write_s=round(time.monotonic() - began, 1))


def see_other_node() -> None:
    """Leave a file for the other node, and wait for the one that it leaves."""
    mine, other = RUN / f"from-{RANK}", RUN / f"from-{1 - RANK}"
    mine.write_text(f"{os.environ.get('SLURM_JOB_ID')} {RANK}")
    if NODES < 2:
        return
    expected = f"{os.environ.get('SLURM_JOB_ID')} {1 - RANK}"
    deadline, seen = time.monotonic() + PATIENCE, ""
    while seen != expected and time.monotonic() < deadline:
        time.sleep(0.2)
        try:
            next(RUN.iterdir())  # makes a network file system look again
            seen = other.read_text()
        except OSError:
            continue
    save(sees_other=seen == expected)


# --- the network


def address() -> tuple[str, int]:
    """Return where the ranks of a training meet: as src/utils/distributed.py chooses it."""
    nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_NODELIST", "127.0.0.1")
    # the first node of a list such as gpu[03-05,09]
    first = re.sub(r"\[(.*?)[,-].*\]", r"\1", nodes)
    first = re.sub(r"\[(.*?)\]", r"\1", first).split(" ")[0].split(",")[0]
    step = int(os.environ.get("SLURM_JOB_ID", 0)) * 7 + int(os.environ.get("SLURM_STEP_ID", 0))
    port = os.environ.get("MASTER_PORT", str(20000 + step % 10000))
    return os.environ.get("MASTER_ADDR", first), int(port)


def meet() -> None:
    """Connect in both directions, as the ranks of a training do, and compare the clocks."""
    host, port = address()
    save(master=f"{host}:{port}")
    try:
        if RANK == 0:
            serve(port)
        else:
            visit(host, port)
        save(network_error="")
    except (OSError, ValueError) as error:
        save(network_error=reason(error))


def serve(port: int) -> None:
    with listen(port) as server:
        server.settimeout(PATIENCE + 10)
        connection, place = server.accept()
        with connection, connection.makefile("rw") as stream:
            back = int(stream.readline())
            stream.write(f"{time.time()}\n")
            stream.flush()
            stream.readline()
        # the ranks also open ports of their own, to which the others connect
        with socket.create_connection((place[0], back), timeout=PATIENCE) as connection:
            connection.sendall(b"hello\n")


def visit(host: str, port: int) -> None:
    with listen(0) as own:
        own.settimeout(PATIENCE)
        with reached(host, port) as connection, connection.makefile("rw") as stream:
            sent = time.time()
            stream.write(f"{own.getsockname()[1]}\n")
            stream.flush()
            theirs = float(stream.readline())
            received = time.time()
            save(clock_apart_s=round(theirs - (sent + received) / 2, 3))
            stream.write("done\n")
            stream.flush()
        own.accept()[0].close()


def listen(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def reached(host: str, port: int) -> socket.socket:
    """Connect, also if the other node needs a while to listen."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return socket.create_connection((host, port), timeout=PATIENCE)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)


def try_internet() -> None:
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    problem = ""
    for site in SITES:
        try:
            urlopen(Request(site, method="HEAD"), timeout=5).close()
            save(internet="")
            return
        except HTTPError:  # an answer
            save(internet="")
            return
        except (OSError, ValueError) as error:
            problem = reason(error)
    save(internet=problem)


# --- the data and the packages


def try_data() -> None:
    sys.path.insert(0, str(Path.cwd()))
    folder = Path(os.environ.get("DATA_DIR") or "data")
    found = {}
    for name in ("MNIST", "cifar-10-batches-py"):
        try:
            check_data = import_module("data.check").check_data
            found[name] = [True, check_data(folder / name)]
        except SystemExit as error:
            found[name] = [False, str(error)]
        except Exception as error:
            found[name] = [False, reason(error)]
    save(data=found)


def try_weights() -> None:
    home = os.environ.get("TORCH_HOME", "")
    if not home:
        return
    try:
        list(Path(home).iterdir())
        save(weights="")
    except OSError as error:
        save(weights=reason(error))


def try_packages() -> None:
    wanted = re.findall(r"^([\w.-]+)==(\S+)", Path("requirements.txt").read_text(), re.MULTILINE)
    versions = {}
    for name, version in wanted:
        try:
            versions[name] = [version, metadata.version(name)]
        except metadata.PackageNotFoundError:
            versions[name] = [version, None]
    save(versions=versions)
    began, errors = time.monotonic(), {}
    for name in MODULES:
        save(importing=name)
        try:
            import_module(name)
        except BaseException as error:
            errors[name] = reason(error)
    save(importing="", import_errors=errors, import_s=round(time.monotonic() - began, 1))
    if "torch" not in errors:
        torch = import_module("torch")
        try:
            gpus, gpu_error = torch.cuda.device_count(), ""
            if gpus:
                torch.ones(2, device="cuda").sum().item()
        except Exception as error:
            gpus, gpu_error = 0, reason(error)
        save(gpus=gpus, gpu_error=gpu_error, torch=torch.__version__)


def main() -> None:
    save(began=time.time())
    look_around()
    if NODES > 1:
        meet()
    see_other_node()
    try_disk()
    try_data()
    try_weights()
    try_internet()
    try_packages()
    save(done=True)


if __name__ == "__main__":
    main()
