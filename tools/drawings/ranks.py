"""Nodes, processes, ranks and devices, and what Slurm calls them (lesson 8)."""

from __future__ import annotations

from drawings.sheet import Sheet

NODES, DEVICES = 2, 2
# what Slurm sets for each process, and what it is
WORDS = [
    ("SLURM_PROCID", "the rank: 0 to 3, over all nodes"),
    ("SLURM_LOCALID", "the local rank: 0 or 1 on each node"),
    ("SLURM_NODEID", "the number of the node: 0 or 1"),
    ("SLURM_NTASKS", "all processes: the world size, 4"),
]


def draw() -> Sheet:
    sheet = Sheet("Ranks and devices of four processes on two nodes", 410)
    sheet.box(
        *(10, 8, 380, 46),
        *("*a job: two nodes, four tasks", "--nodes=2 --ntasks-per-node=2 --gres=gpu:2"),
    )
    for node in range(NODES):
        left = 10 + 196 * node
        sheet.rect(left, 66, 184, 194, "frame")
        sheet.lines(left + 92, 86, f"*node{node + 1}", f"node number {node}", look="middle")
        for local in range(DEVICES):
            x = left + 6 + 88 * local
            rank = DEVICES * node + local
            sheet.box(x, 114, 84, 80, "*task", f"rank {rank}", f"local rank {local}", look="amber")
            sheet.arrow((x + 42, 194), (x + 42, 220))
            sheet.box(x, 220, 84, 30, f"GPU {local}", look="blue")
    sheet.text(10, 288, "what Slurm sets for each process", "bold")
    for row, (name, what) in enumerate(WORDS):
        y = 298 + 26 * row
        sheet.box(10, y, 124, 24, name, look="frame")
        sheet.box(138, y, 252, 24, what, left=True)
    return sheet
