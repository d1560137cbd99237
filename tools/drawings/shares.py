"""Data-parallel training over two nodes with two GPUs each (lesson 8)."""

from __future__ import annotations

from drawings.sheet import Sheet

LEFT = (18, 106, 212, 300)  # of the processes
WIDTH = 82
HOLDS = ("16 images", "all weights", "optimizer", "gradients")
EXCHANGED = [
    ("at the start", "the weights of process 0, to all"),
    ("backward pass", "gradients: all get their mean"),
    ("forward pass", "batch norm statistics of process 0"),
    ("end of an epoch", "counts of the metrics: their sum"),
    ("never", "images, optimizer states"),
]


def draw() -> Sheet:
    sheet = Sheet("Data-parallel training: who holds what, and what is exchanged", 478)
    sheet.box(10, 8, 380, 28, "an optimizer step: a batch of 64 images", look="result")
    for node in range(2):
        sheet.rect(LEFT[2 * node] - 8, 66, 186, 158, "frame")
        sheet.text(LEFT[2 * node] + 85, 86, f"node {node + 1}", "bold middle")
    for rank, left in enumerate(LEFT):
        sheet.arrow((left + WIDTH / 2, 36), (left + WIDTH / 2, 66))
        sheet.box(left, 96, WIDTH, 118, f"process {rank}", f"GPU {rank % 2}", *HOLDS, look="blue")
        for end in (224, 252):  # in both directions
            sheet.arrow((left + WIDTH / 2, 238), (left + WIDTH / 2, end))
    sheet.box(
        *(10, 252, 380, 46),
        *("*all-reduce: the mean of all gradients", "then all take the same step"),
        look="amber",
    )
    sheet.text(10, 326, "what is exchanged, and when", "bold")
    for row, (when, what) in enumerate(EXCHANGED):
        y = 338 + 26 * row
        sheet.box(10, y, 118, 24, when, look="frame")
        sheet.box(132, y, 258, 24, what, left=True)
    return sheet
