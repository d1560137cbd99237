"""Validation accuracy by epoch of two networks (lesson 7), from their reference logs."""

from __future__ import annotations

import re
from pathlib import Path

from drawings.sheet import Sheet

LOGS = Path(__file__).resolve().parents[2] / "docs/reference-logs"
CURVES = (
    ("ResNet-18", "7-resnet18.out", "mark"),
    ("fully connected", "6-fully-connected.out", "mark dashed"),
)
LEFT, RIGHT, TOP, HEIGHT = 54, 380, 30, 200
EPOCHS = 10


def accuracies(name: str) -> list[float]:
    """Return the validation accuracy after each epoch of a log."""
    return [float(acc) for acc in re.findall(r"val loss \S+ acc (\S+)", (LOGS / name).read_text())]


def place(epoch: int, accuracy: float) -> tuple[float, float]:
    x = LEFT + (RIGHT - LEFT) * (epoch - 0.5) / EPOCHS
    return round(x, 1), round(TOP + HEIGHT * (1 - accuracy), 1)


def draw() -> Sheet:
    sheet = Sheet("Validation accuracy by epoch of ResNet-18 and of a fully connected network", 284)
    sheet.text(8, 18, "validation accuracy")
    sheet.rect(LEFT, TOP, RIGHT - LEFT, HEIGHT, "frame")
    for tenths in range(0, 11, 2):
        _, y = place(1, tenths / 10)
        sheet.text(LEFT - 8, y + 5, f"{tenths / 10:.1f}", "end")
        sheet.line((LEFT - 4, y), (LEFT, y))
    for epoch in range(1, EPOCHS + 1):
        sheet.text(place(epoch, 0)[0], TOP + HEIGHT + 19, str(epoch), "middle")
    sheet.text((LEFT + RIGHT) / 2, TOP + HEIGHT + 40, "epoch", "middle")
    for name, log, look in CURVES:
        points = [place(epoch, acc) for epoch, acc in enumerate(accuracies(log), start=1)]
        sheet.curve(points, look)
        for x, y in points:
            sheet.dot(x, y)
        sheet.text(points[-1][0], points[-1][1] + 24, name, "end")
    return sheet
