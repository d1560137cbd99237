"""How the tools that write files end: with a whole file or the old one, and without a traceback."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def quiet_interrupt() -> Iterator[None]:
    """End the program with code 130 and one word if Ctrl-C is pressed."""
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None


def write_whole(path: Path, data: bytes) -> None:
    """Write a file beside its place and rename it, so that there is always a whole one.

    Raises:
        SystemExit: if it cannot be written; an older file stays as it is.
    """
    place = Path(os.path.realpath(path))  # a link stays a link
    part = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
    try:
        if place.is_dir():
            raise IsADirectoryError("it is a folder: rename or delete it")
        if place.exists() and not os.access(place, os.W_OK):
            raise PermissionError("it is read-only: make it writable with chmod u+w, or delete it")
        part.write_bytes(data)
        part.replace(place)
    except OSError as error:
        why = error.strerror or str(error)
        raise SystemExit(f"{path} cannot be written: {why}") from None
    finally:
        with suppress(OSError):
            part.unlink()
