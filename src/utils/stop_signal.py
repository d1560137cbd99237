"""Note the signal that announces the end of the job: armed in src/main.py, before slow imports."""

import signal
from types import FrameType

# signals that have arrived; src/callbacks/interruption.py looks here between two batches
received: list[str] = []


def arm(name: str) -> None:
    """Note this signal (USR1 or USR2), which would otherwise end this process."""
    signal.signal(signal.Signals[f"SIG{name}"], note)


def note(number: int, frame: FrameType | None) -> None:
    """Note the signal; nothing else is safe, since it arrives anywhere, even within a save."""
    name = signal.Signals(number).name
    if name == "SIGINT" and name in received:  # Ctrl-C again: now
        raise KeyboardInterrupt
    received.append(name)
