"""The network of lesson 1, with the sizes that its program names."""

from __future__ import annotations

import re
from pathlib import Path

from drawings.sheet import Sheet

PROGRAM = Path(__file__).parents[2] / "lessons/1-simple-model-training/src/main.py"


def sizes() -> list[int]:
    """Return how many numbers each layer gets, and how many scores come out."""
    found = re.search(r"three fully connected layers: ([\d-]+)", PROGRAM.read_text())
    if not found:
        raise SystemExit(f"{PROGRAM} does not name the sizes of the layers")
    return [int(size) for size in found[1].split("-")]


def draw() -> Sheet:
    sheet = Sheet("The network of lesson 1: three fully connected layers", 386)
    middle = 136
    sheet.box(middle - 60, 8, 120, 40, "image", "28 x 28 pixels", look="amber")
    sheet.arrow((middle, 48), (middle, 84))
    sheet.text(middle + 12, 71, "nn.Flatten: rows in a line")
    y = 84
    numbers = sizes()
    for size in numbers:
        last = size == numbers[-1]
        width = 60 + size**0.5 * 6.8
        name = f"{size} scores" if last else f"{size} numbers"
        sheet.box(middle - width / 2, y, width, 28, name, look="blue")
        y += 88
    for layer, (inputs, outputs) in enumerate(zip(numbers, numbers[1:]), 1):
        y = 112 + 88 * (layer - 1)
        relu = ", then nn.ReLU" if layer < len(numbers) - 1 else ""
        sheet.arrow((middle, y), (middle, y + 60))
        sheet.lines(
            middle + 12,
            y + 27,
            f"nn.Linear {layer}{relu}",
            f"{inputs} x {outputs} weights, {outputs} biases",
        )
    sheet.lines(middle + 80, 359, "one score per digit;", "the highest is the answer")
    return sheet
