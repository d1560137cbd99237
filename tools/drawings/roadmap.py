"""The ten lessons (README)."""

from __future__ import annotations

from drawings.sheet import MARGIN, WIDTH, Sheet

PARTS = [
    (
        "One job",
        {
            1: "a training loop in PyTorch; sbatch",
            2: "LightningModule and Trainer",
            3: "worker processes load the data",
        },
    ),
    (
        "Many runs",
        {
            4: "run.py writes the Slurm script",
            5: "metrics, TensorBoard, profiler",
        },
    ),
    (
        "Your data, your network",
        {
            6: "a DataModule; CIFAR-10",
            7: "ResNets by name",
        },
    ),
    (
        "Beyond one machine and one job",
        {
            8: "several processes, GPUs and nodes",
            9: "jobs that save, requeue and resume",
        },
    ),
    ("Experiments as files", {10: "settings, checked before a job starts"}),
]
ROW, GAP = 27, 16


def draw() -> Sheet:
    heights = [36 + ROW * len(lessons) for _, lessons in PARTS]
    sheet = Sheet("The ten lessons in five parts", sum(heights) + GAP * (len(PARTS) - 1) + 12)
    y = 6.0
    for (title, lessons), height in zip(PARTS, heights):
        sheet.rect(MARGIN, y, WIDTH - 2 * MARGIN, height)
        sheet.text(22, y + 21, title, "bold")
        for row, (number, learned) in enumerate(lessons.items()):
            top = y + 31 + ROW * row
            sheet.rect(22, top, 32, 22, "result")
            sheet.text(38, top + 16, str(number), "strong middle")
            sheet.text(66, top + 16, learned)
        y += height + GAP
        if y < sheet.height:
            sheet.arrow((38, y - GAP), (38, y))
    return sheet
