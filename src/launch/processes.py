"""Start the processes of a distributed run on this machine; in a job, srun starts them."""

import os
import signal
import socket
import subprocess
import sys
import threading

from src.utils.errors import exit_with

# environment variable of the processes started here: a pipe that closes when process 0 ends
PIPE = "HPC_STARTER_PIPE"


def is_child():
    """Return whether start_processes started this process."""
    return PIPE in os.environ


def start_processes(devices, words):
    """Run a Python program as processes 1 to devices - 1; this process becomes process 0.

    Lightning could start them, but only after this process has imported everything; started here,
    all of them import at the same time. If one fails, all end.
    """
    if is_child():
        read_end = int(os.environ[PIPE])
        threading.Thread(target=end_with_process_0, args=[read_end], daemon=True).start()
        return
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    # the variables that Lightning and PyTorch read
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), NODE_RANK="0")
    os.environ["LOCAL_RANK"] = "0"
    read_end, _ = os.pipe()  # the other end stays open as long as this process lives
    for rank in range(1, devices):
        process = subprocess.Popen(
            [sys.executable, *words],
            env={**os.environ, "LOCAL_RANK": str(rank), PIPE: str(read_end)},
            pass_fds=[read_end],
        )
        threading.Thread(target=end_with_process, args=[process, rank], daemon=True).start()


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
