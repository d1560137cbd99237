"""A ResNet block and ResNet-18, with the sizes of an image of CIFAR-10 (lesson 7)."""

from __future__ import annotations

from drawings.sheet import Sheet

# layers of ResNet-18, and the size of what they return for an image of 3 x 32 x 32
LAYERS = [
    ("7 x 7 convolution", "64 x 16 x 16", "plain"),
    ("maximum of 3 x 3", "64 x 8 x 8", "plain"),
    ("2 blocks: layer1", "64 x 8 x 8", "blue"),
    ("2 blocks: layer2", "128 x 4 x 4", "blue"),
    ("2 blocks: layer3", "256 x 2 x 2", "blue"),
    ("2 blocks: layer4", "512 x 1 x 1", "blue"),
    ("mean over the pixels", "512", "plain"),
    ("linear layer: fc", "10 scores", "amber"),
]
BLOCK = ["3 x 3 convolution", "batch norm", "ReLU", "3 x 3 convolution", "batch norm"]


def block(sheet: Sheet) -> None:
    """Draw a block at the left."""
    sheet.text(10, 22, "a block", "bold")
    x, y = 84, 66
    sheet.text(x, 52, "x", "strong middle")
    for layer in BLOCK:
        sheet.arrow((x, y - 8), (x, y + 14))
        sheet.box(14, y + 14, 140, 30, layer, look="blue")
        y += 52
    sheet.arrow((x, y - 8), (x, y + 14))
    sheet.box(40, y + 14, 88, 30, "*+", look="result")
    sheet.line((x + 12, 47), (176, 47), (176, y + 29))
    sheet.arrow((176, y + 29), (128, y + 29))
    sheet.arrow((x, y + 44), (x, y + 66))
    sheet.box(14, y + 66, 140, 30, "ReLU", look="blue")


def draw() -> Sheet:
    sheet = Sheet("A block of a residual network, and the layers of ResNet-18", 534)
    block(sheet)
    sheet.text(204, 22, "ResNet-18", "bold")
    sheet.text(290, 52, "image: 3 x 32 x 32", "middle")
    y = 58
    for name, size, look in LAYERS:
        sheet.arrow((290, y), (290, y + 12))
        sheet.box(204, y + 12, 186, 38, name, size, look=look)
        y += 50
    sheet.lines(
        *(10, 488),
        "Gradients can bypass the layers of a block. If a block",
        "halves height and width, its bypass has a 1 x 1",
        "convolution.",
    )
    return sheet
