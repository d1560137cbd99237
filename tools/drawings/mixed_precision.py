"""16 and 32 bits in a step of mixed precision (lesson 8)."""

from __future__ import annotations

from drawings.sheet import Sheet

RIGHT, MIDDLE = 214, 302  # the column of 16 bits
STEPS = {
    "weights": (40, ("*weights",)),
    "loss": (166, ("*loss",)),
    "scaled": (220, ("*loss x scale", "so small gradients", "stay above 0")),
    "unscaled": (336, ("*gradients / scale", "inf or nan: skip the", "step, lower the scale")),
    "step": (424, ("*optimizer step",)),
}


def draw() -> Sheet:
    sheet = Sheet("Which numbers of a training step have 16 bits, and which 32", 470)
    sheet.text(98, 24, "32 bits", "bold middle")
    sheet.text(MIDDLE, 24, "16 bits", "bold middle")
    for top, words in STEPS.values():
        sheet.box(22, top, 160, 14 + 17 * len(words), *words, look="amber")
    sheet.box(RIGHT, 40, 176, 31, "*copies of weights", look="blue")
    forward = ("*forward pass", "convolutions, products", "of matrices")
    sheet.box(RIGHT, 96, 176, 66, *forward, look="blue")
    backward = ("*backward pass", "through the same layers")
    sheet.box(RIGHT, 268, 176, 48, *backward, look="blue")
    sheet.arrow((182, 55), (RIGHT, 55))
    sheet.arrow((MIDDLE, 71), (MIDDLE, 96))
    sheet.arrow((MIDDLE, 162), (MIDDLE, 182), (182, 182))
    sheet.arrow((102, 197), (102, 220))
    sheet.arrow((182, 252), (MIDDLE, 252), (MIDDLE, 268))
    sheet.arrow((MIDDLE, 316), (MIDDLE, 368), (182, 368))
    sheet.arrow((102, 401), (102, 424))
    sheet.arrow((22, 440), (10, 440), (10, 55), (22, 55))
    return sheet
