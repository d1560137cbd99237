"""Workers that feed a training loop (lesson 3), in a small simulation."""

from __future__ import annotations

from drawings.sheet import Sheet

LOAD, TRAIN = 60, 48  # how long a batch takes, in units of the picture
LEFT, END = 68, 324
ROW, HEIGHT = 32, 28
PANELS = [
    "one process, which loads and trains in turn",
    "a training that waits for its only worker",
    "a training that waits for its first batch only",
]


def bar(sheet: Sheet, start: float, y: float, length: float, words: str, look: str) -> None:
    sheet.rect(LEFT + start, y, length, HEIGHT, look)
    if length > 40:
        sheet.text(LEFT + start + length / 2, y + 19, words, "middle")


def alone(sheet: Sheet, y: float) -> int:
    """Draw a process that loads and trains in turn; return the number of batches."""
    done = END // (LOAD + TRAIN)
    for batch in range(done):
        start = batch * (LOAD + TRAIN)
        bar(sheet, start, y, LOAD, f"load {batch + 1}", "blue")
        bar(sheet, start + LOAD, y, TRAIN, f"train {batch + 1}", "amber")
    return done


def with_workers(sheet: Sheet, y: float, workers: int) -> int:
    """Draw workers and, below them, the training; return the number of batches."""
    loaded = []
    for turn in range(END // LOAD):
        for worker in range(workers):
            loaded.append((turn + 1) * LOAD)
            bar(sheet, turn * LOAD, y + worker * ROW, LOAD, f"load {len(loaded)}", "blue")
    now, done, y = 0, 0, y + workers * ROW
    for ready in loaded:
        start = max(now, ready)
        if start + TRAIN > END:
            break
        if ready > now:
            bar(sheet, now, y, ready - now, "waits", "idle")
        done += 1
        bar(sheet, start, y, TRAIN, f"train {done}", "amber")
        now = start + TRAIN
    return done


def draw() -> Sheet:
    sheet = Sheet("One training without workers, with one worker, and with two", 412)
    y = 10.0
    for workers, what in enumerate(PANELS):
        top, y = y, y + 50
        for worker in range(workers):
            sheet.text(8, y + 19 + worker * ROW, f"worker {worker + 1}")
        sheet.text(8, y + 19 + workers * ROW, "training")
        done = with_workers(sheet, y, workers) if workers else alone(sheet, y)
        sheet.lines(8, top + 17, f"*num_workers={workers}: {done} batches", what)
        y += (workers + 1) * ROW + 10
    sheet.arrow((LEFT, y + 4), (LEFT + END, y + 4))
    sheet.text(LEFT, y + 22, "time; loading takes longer than training")
    return sheet
