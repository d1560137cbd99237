"""How a training that fails ends: in a sentence, and never with exit code 0."""

import os
import re
import shutil
import signal
import sys
import traceback
from contextlib import contextmanager, suppress
from pathlib import Path

# what an error says or where it was raised, and what that means on a cluster; the first that fits
MEANINGS = {
    r"allocate shared memory|DataLoader worker \(pid|in resource_sharer.py": "a process that loads"
    " data was ended: /dev/shm ({shm}) or the memory of the job is too small; use fewer workers, or"
    " ask for more",
    r"No space left|quota exceeded": "the disk is full, or your quota is{room};"
    " what was saved before is kept: make room, or write to another disk, and start again",
    r"more than 1 value per channel": "batch norm needs two images: choose another batch size",
    r"MisconfigurationException": "Lightning refuses these settings",
    r"EADDRINUSE": "another program has the port of this training: start it again",
    r"clients joined|client socket has timed out": "not all processes came in time: is"
    " one of them missing from the log?",
    r"\bgloo\b|NCCL|TCPStore|Connection (closed|reset) by peer": "another process ended or did not"
    " answer in time: its own last lines say why, unless it was killed or is stuck",
    r"CUDA out of memory": "the memory of the GPU is too small: lower the batch size",
    r"^MemoryError|allocate memory": "the memory of the job is too small: ask for more",
}


@contextmanager
def plain_errors():
    """Say in one sentence what ended the training; a mistake in the program keeps its traceback."""
    signal.signal(signal.SIGTERM, end_at_sigterm)
    try:
        yield
    except SystemExit as error:
        if isinstance(error.code, str):
            leave(error.code)
        leave("interrupted", error.code or 1)
    except KeyboardInterrupt:
        leave("interrupted", 130)
    except Exception as error:
        leave(explain(error) or traceback.format_exc())


def end_at_sigterm(*_):
    """End at once; Lightning would finish the batch, wait for other processes, and end with 0."""
    leave("ended by SIGTERM: scancel, the time limit, or the end of another process", 143)


def explain(error):
    """Return what an error means on a cluster, or None if it is none of the usual ones."""
    said = "".join(traceback.format_exception_only(error)).strip()
    frames = traceback.extract_tb(error.__traceback__)
    places = "".join(f"\nin {Path(frame.filename).name}" for frame in frames)
    for pattern, meaning in MEANINGS.items():
        if re.search(pattern, said + places):
            named = getattr(error, "filename2", None) or getattr(error, "filename", None)
            folder = Path(named or ".").absolute().parent
            room = f" ({free_mb(folder)} in {folder})" if named else ""
            sentence = meaning.format(shm=free_mb("/dev/shm"), room=room)
            return f"{sentence} ({' '.join(said.split()):.400})"
    return explain(error.__context__) if error.__context__ else None


def free_mb(folder):
    return f"{shutil.disk_usage(folder).free >> 20} MB free" if Path(folder).is_dir() else "none"


def leave(sentence, code=1):
    """End here and now: cleaning up could wait for processes that are dead."""
    several = os.environ.get("SLURM_NTASKS", "1") != "1"
    who = f"process {os.environ.get('SLURM_PROCID')}: " if several else ""
    with suppress(RuntimeError, OSError):  # a signal amid a print; a log on a disk that is full
        sys.stdout.flush()
    with suppress(OSError):
        os.write(2, f"{who}{sentence.rstrip()}\n".encode(errors="replace"))
    os._exit(code)
