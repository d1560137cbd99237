"""End a failed training with one sentence and a non-zero exit code: see src/main.py."""

import os
import signal
import sys
from contextlib import contextmanager


class UserError(Exception):
    """A mistake that the user can fix; its text is all that the user sees."""


@contextmanager
def plain_errors():
    """Report in one sentence an error that the user can fix; a bug keeps its traceback."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # the shell has closed it: run.py >&-
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
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


def exit_at_sigterm(*_):
    """End at once with the signal; Lightning would finish the batch and exit with 0.

    Raising an exception here is not reliable: the interrupted code may ignore exceptions.
    """
    say("ended by SIGTERM: scancel, the time limit, or the end of another process")
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def exit_with(sentence, code=1):
    """Write one sentence and exit."""
    say(sentence)
    raise SystemExit(code)


def say(sentence):
    """Write a sentence to standard error, even from a signal handler."""
    os.write(2, f"{sentence.rstrip()}\n".encode(errors="replace"))
