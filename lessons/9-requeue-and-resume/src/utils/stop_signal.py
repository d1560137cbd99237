"""Note the signal that announces the end of the job: armed in run.py, before the slow imports."""

import signal
from collections.abc import Sequence
from types import FrameType

NAMES = ("USR1", "USR2")
# signals that have arrived; src/callbacks/interruption.py looks here between two batches
received: list[str] = []


def arm(words: Sequence[str]) -> None:
    """Note the signal that --signal=NAME names, which would otherwise end this process."""
    for name in NAMES:
        if f"--signal={name}" in words:
            signal.signal(signal.Signals[f"SIG{name}"], note)


def note(number: int, frame: FrameType | None) -> None:
    """Note the signal; nothing else is safe, since it arrives anywhere, even within a save."""
    name = signal.Signals(number).name
    if name == "SIGINT" and name in received:  # Ctrl-C again: now
        raise KeyboardInterrupt
    received.append(name)
