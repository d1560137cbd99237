"""A DataModule's life over two nodes with two processes each (lesson 6, used in lesson 8)."""

from __future__ import annotations

from drawings.sheet import Sheet

COLUMNS = (10, 102, 208, 300)  # of the processes
WIDTH = 88
SHARES = ["0, 4, 8 ...", "1, 5, 9 ...", "2, 6, 10 ...", "3, 7, 11 ..."]
# what is called; why; what each process does
STEPS = [
    ("1 prepare_data()", "one process checks the files", ["checks", *["waits"] * 3]),
    ('2 setup("fit")', "each reads and splits all images", ["all images"] * 4),
    ("3 train_dataloader(), val_dataloader()", "each takes its share of a common order", SHARES),
    ('4 setup("test"), test_dataloader()', "after the training, in the same shares", SHARES),
]


def draw() -> Sheet:
    sheet = Sheet("What a DataModule does in four processes on two nodes", 400)
    for node in range(2):
        left = COLUMNS[2 * node]
        sheet.box(left, 8, 180, 28, f"*node {node + 1}")
    for rank, left in enumerate(COLUMNS):
        sheet.text(left + WIDTH / 2, 56, f"process {rank}", "middle")
    y = 68
    for call, reason, shares in STEPS:
        sheet.lines(10, y + 14, f"*{call}", reason)
        for left, share in zip(COLUMNS, shares):
            look = {"waits": "idle", "checks": "amber"}.get(share, "blue")
            sheet.box(left, y + 40, WIDTH, 28, share, look=look)
        y += 82
    return sheet
