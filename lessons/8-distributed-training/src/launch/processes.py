"""Start the processes of a distributed run on this machine; in a job, srun starts them."""

import os
import signal
import socket
import subprocess
import sys
import threading

from src.utils.errors import UserError, exit_with

# environment variable of the processes started here: the process id of rank 0, a pipe that closes
# when rank 0 ends, and their own rank
PIPE = "HPC_STARTER_PIPE"


def is_child():
    """Return whether start_processes started this process."""
    parent = os.environ.get(PIPE, "").partition(" ")[0]
    return parent == str(os.getppid())


def start_processes(devices, words):
    """Run a Python program as processes 1 to devices - 1; this process becomes process 0.

    Lightning could start them, but only after this process has imported everything; started here,
    all of them import at the same time. If one fails, all end.
    """
    if PIPE in os.environ:
        join_process_0()
        return
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    # the variables that Lightning and PyTorch read
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), LOCAL_RANK="0")
    read_end, _ = os.pipe()  # the other end stays open as long as this process lives
    for rank in range(1, devices):
        process = subprocess.Popen(
            [sys.executable, *words],
            env={**os.environ, PIPE: f"{os.getpid()} {read_end} {rank}"},
            pass_fds=[read_end],
        )
        threading.Thread(target=end_with_process, args=[process, rank], daemon=True).start()


def join_process_0():
    """Take the rank that process 0 has assigned, and end when process 0 ends."""
    if not is_child():
        left = f"{PIPE}={os.environ[PIPE]}"
        raise UserError(f"{left} is left over from another training: unset {PIPE}")
    _, read_end, rank = os.environ.pop(PIPE).split()
    os.environ["LOCAL_RANK"] = rank
    threading.Thread(target=end_with_process_0, args=[int(read_end)], daemon=True).start()


def end_with_process_0(read_end):
    os.read(read_end, 1)  # returns when the pipe closes
    os._exit(1)


def end_with_process(process, rank):
    """Wait for another process; if it fails, exit with the same code."""
    code = process.wait()
    if code < 0:
        exit_with(f"process {rank} was ended by {signal.Signals(-code).name}", 128 - code)
    if code > 0:
        os._exit(code)
