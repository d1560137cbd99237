"""Draw the pictures of lessons 6 to 8: python .img/draw.py DATA LOG_6 LOG_7 (see README.md)"""

import re
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from src.datasets.cifar10 import CIFAR10DataModule  # noqa: E402


def crops(data_dir):
    """Draw four training images: unchanged, and as augmented in five epochs."""
    data = CIFAR10DataModule(data_dir)
    data.setup("fit")
    torch.manual_seed(1)
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.subplots(4, 6)
    draws = [data.train_set.__getitems__([0, 1, 2, 3])[0] for _ in range(5)]
    images, _ = data.train_set.crops[:4, :, 4, 4], None
    for row in range(4):
        for column in range(6):
            image = images[row].float() / 255 if not column else draws[column - 1][row]
            if column:
                image = image * torch.tensor(data.std)[:, None, None]
                image = (image + torch.tensor(data.mean)[:, None, None]).clamp(0, 1)
            axes[row, column].imshow(image.permute(1, 2, 0))
            axes[row, column].set(xticks=[], yticks=[])
            if row == 0:
                title = "in memory" if not column else f"epoch {column}"
                axes[row, column].set_title(title, fontsize=10)
    figure.savefig(HERE / "crops.png", dpi=100)


def accuracies(log):
    return [float(found) for found in re.findall(r"val loss \S+ acc (\S+)", Path(log).read_text())]


def networks(fully_connected, residual):
    """Plot the validation accuracy of two networks by epoch."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, log, style in (
        ("ResNet-18", residual, "o-"),
        ("fully connected", fully_connected, "s--"),
    ):
        values = accuracies(log)
        axes.plot(range(1, len(values) + 1), values, style, label=name)
        axes.annotate(
            name, (len(values), values[-1]), (-8, -16), textcoords="offset points", ha="right"
        )
    axes.set(xlabel="epoch", ylabel="validation accuracy", ylim=(0, 1), xticks=range(1, 11))
    axes.grid(alpha=0.3)
    figure.savefig(HERE / "networks.png", dpi=100)


def shares():
    """Draw a batch of 64 images, divided over two nodes with two processes each."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(0, 14), ylim=(0, 8))
    axes.axis("off")

    def box(x, y, width, height, text, **style):
        style = {"boxstyle": "round,pad=0.1", "fc": "white", "ec": "black", **style}
        axes.add_patch(FancyBboxPatch((x, y), width, height, **style))
        axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=10)

    box(1, 7, 12, 0.7, "one optimizer step: --batch_size 64 images")
    for node in range(2):
        left = 0.4 + 6.8 * node
        box(left, 2.3, 6.3, 3.9, "", fc="#eeeeee", ec="gray")
        axes.text(left + 3.15, 5.9, f"node {node + 1}", ha="center", va="center", fontsize=10)
        for device in range(2):
            rank, x = 2 * node + device, left + 0.3 + 3 * device
            text = f"process {rank}\n16 images\nown copy of\nthe network\nown gradients"
            box(x, 2.6, 2.6, 2.9, text)
            for start, end in ((6.9, 5.7), (2.5, 1.6)):
                arrow = {"arrowstyle": "->"}
                axes.annotate("", (x + 1.3, end), (x + 1.3, start), arrowprops=arrow)
    box(1, 0.4, 12, 1, "all-reduce: the mean of the gradients goes to all;\nall make the same step")
    figure.savefig(HERE / "shares.png", dpi=100)


if __name__ == "__main__":
    crops(sys.argv[1])
    networks(*sys.argv[2:])
    shares()
