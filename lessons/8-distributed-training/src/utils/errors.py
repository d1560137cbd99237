"""End a failed training with one sentence and a non-zero exit code: see run.py."""

import os
import re
import shutil
import signal
import sys
import time
import traceback
from contextlib import contextmanager, suppress
from pathlib import Path

# pattern of an error's message or source file -> its meaning on a cluster; first match wins
MEANINGS = {
    r"Too many open files|ancdata": "the limit of open files (ulimit -n) is too low: raise it in"
    " site.sh, or use fewer workers",
    r"_socket\.bind|/pymp-|No usable temporary": "worker processes need a folder with a short path,"
    ' where they may create sockets: add a line such as "export TMPDIR=/tmp" to site.sh',
    r"allocate shared memory|DataLoader worker \(pid|in resource_sharer.py": "a data-loading"
    " worker was killed: /dev/shm ({shm}) or the job's memory is too small; use fewer workers, or"
    " request more memory",
    r"^MemoryError|allocate memory": "the job's memory is too small: request more",
    r"No space left|quota exceeded": "the disk or your quota is full{room};"
    " earlier files are kept: free some space, or write to another disk, and start again",
    r"MisconfigurationException": "Lightning refuses these settings",
    r"^ModuleNotFoundError": "a package is missing: activate the environment first, with source"
    " env/bin/activate (docs/preparation.md), or call its Python, env/bin/python",
    r"^ImportError: cannot import name": "another package has this name: check PYTHONPATH",
    r"Target .* out of bounds|device-side assert": "a label is not the number of a class: the"
    " labels of n classes are 0 to n - 1",
    r"cannot identify image|image file is truncated|broken (PNG|data)": "an image file is damaged",
    r"Found no valid file for the classes": "the folder of a class contains no images",
    r"parameters that were not used in producing": "some weights take no part in the loss: remove"
    " them from the network, or use --find_unused_parameters",
    r"more than 1 value per channel": "batch norm needs two images per batch: change --batch_size",
    r"EADDRINUSE": "another program uses the port of this training: start the training again",
    r"clients joined|client socket has timed out": "not all processes connected in time:"
    " which one is missing from the log?",
    r"\bgloo\b|NCCL|TCPStore|pair closure|Connection (closed|reset) by peer": "another process"
    " ended or did not answer in time: its last lines say why, unless it was killed or is stuck",
    r"CUDA out of memory": "the GPU's memory is too small: lower --batch_size",
}


class UserError(Exception):
    """A mistake that the user can fix; its text is all that the user sees."""


@contextmanager
def plain_errors():
    """Report in one sentence an error that the user can fix; a bug keeps its traceback."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # the shell has closed it: run.py >&-
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
    with suppress(AttributeError):  # a character that the terminal cannot show must not end it
        sys.stdout.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, exit_at_sigterm)
    try:
        yield
    except UserError as error:
        # from a worker, the text follows a traceback
        exit_with(str(error).rpartition("UserError: ")[2])
    except KeyboardInterrupt:
        exit_with("interrupted", 130)
    except SystemExit as error:
        # Lightning turns Ctrl-C into exit code 1
        if isinstance(error.__context__, KeyboardInterrupt):
            exit_with("interrupted", 130)
        if isinstance(error.code, str):
            exit_with(error.code)
        raise
    except Exception as error:
        if "killed by signal: Terminated" in traceback.format_exc():
            exit_at_sigterm()  # data-loading workers received the signal before this process
        exit_with(explain(error) or traceback.format_exc())


def exit_at_sigterm(*_):
    """End at once with the signal; Lightning would finish the batch and exit with 0.

    Raising an exception here is not reliable: the interrupted code may ignore exceptions.
    """
    say("ended by SIGTERM: scancel, the time limit, or the end of another process")
    if several_processes():
        os._exit(143)  # srun would report SIGTERM, not the failure that caused it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def explain(error):
    """Return what a library's error means on a cluster, or None if it matches no pattern."""
    said = "".join(traceback.format_exception_only(error)).strip()
    frames = traceback.extract_tb(error.__traceback__)
    places = "".join(f"\nin {Path(frame.filename).name}" for frame in frames)
    for pattern, meaning in MEANINGS.items():
        if re.search(pattern, said + places):
            named = getattr(error, "filename2", None) or getattr(error, "filename", None)
            folder = Path(named or ".").absolute().parent
            room = f" ({free_mb(folder)} in {folder})" if named else ""
            sentence = meaning.format(shm=free_mb("/dev/shm"), room=room)
            # an error from a worker contains the worker's traceback, whose last line is the error
            shown = said.splitlines()[-1] if "DataLoader worker process" in said else said
            return f"{sentence} ({' '.join(shown.split()):.400})"
    return explain(error.__context__) if error.__context__ else None


def free_mb(folder):
    return f"{shutil.disk_usage(folder).free >> 20} MB free" if Path(folder).is_dir() else "none"


def exit_with(sentence, code=1):
    """Write one sentence and exit; in a distributed run, exit without cleanup.

    Python's cleanup at exit would wait for processes that may be dead.
    """
    say(sentence)
    if several_processes():
        time.sleep(1)  # srun ends a step at once, and loses lines that it has just received
        os._exit(code)
    raise SystemExit(code)


def several_processes():
    return os.environ.get("SLURM_NTASKS", "1") != "1" or "LOCAL_RANK" in os.environ


def say(sentence):
    """Write a sentence to standard error."""
    rank = os.environ.get("SLURM_PROCID")
    who = f"process {rank}: " if rank and several_processes() else ""
    try:
        sys.stdout.flush()
    except Exception:  # a signal during a print or a redirect_stdout(None), or a full disk
        sys.stdout = None  # at exit, Python would flush again and change the exit code
    with suppress(OSError):
        os.write(2, f"{who}{sentence.rstrip()}\n".encode(errors="replace"))
