"""End a failed training with one sentence and a true exit code: see run.py."""

import os
import re
import shutil
import signal
import sys
import traceback
from contextlib import contextmanager, suppress
from pathlib import Path

# pattern of an error's message or source file -> its meaning on a cluster; first match wins
MEANINGS = {
    r"allocate shared memory|DataLoader worker \(pid|in resource_sharer.py": "a process that loads"
    " data was ended: /dev/shm ({shm}) or the memory of the job is too small; use fewer workers, or"
    " ask for more",
    r"^MemoryError|allocate memory": "the memory of the job is too small: ask for more",
    r"No space left|quota exceeded": "the disk is full, or your quota is{room};"
    " what was saved before is kept: make room, or write to another disk, and start again",
    r"MisconfigurationException": "Lightning refuses these settings",
}


class UserError(Exception):
    """A mistake that the user can fix; its text is all that the user sees."""


@contextmanager
def plain_errors():
    """Report in one sentence what the user can fix; a bug in the program keeps its traceback."""
    signal.signal(signal.SIGTERM, exit_at_sigterm)
    try:
        yield
    except UserError as error:
        exit_with(str(error))
    except KeyboardInterrupt:
        exit_with("interrupted", 130)
    except SystemExit as error:
        # Lightning turns Ctrl-C into exit code 1
        if isinstance(error.__context__, KeyboardInterrupt):
            exit_with("interrupted", 130)
        raise
    except Exception as error:
        exit_with(explain(error) or traceback.format_exc())


def exit_at_sigterm(*_):
    """Die of the signal at once; Lightning would finish the batch and exit with 0.

    An exception would not do: raised from here, it may hit a place that ignores exceptions.
    """
    say("ended by SIGTERM: scancel, the time limit, or the end of another process")
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def explain(error):
    """Return what an error of a library means on a cluster, or None if it is none of the usual."""
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


def exit_with(sentence, code=1):
    """Exit with one sentence."""
    say(sentence)
    raise SystemExit(code)


def say(sentence):
    """Write a sentence to standard error."""
    try:
        sys.stdout.flush()
    except (RuntimeError, OSError):  # a signal during a print; a log on a full disk
        sys.stdout = None  # at its exit Python would try again, and change the exit code
    with suppress(OSError):
        os.write(2, f"{sentence.rstrip()}\n".encode(errors="replace"))
