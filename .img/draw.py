"""Draw the picture of lesson 6 in light and dark: python .img/draw.py DATA (see README.md)"""

import sys
from pathlib import Path

import torch
from matplotlib import rc_context
from matplotlib.figure import Figure

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tools")]
from drawings.sheet import PALETTE, SHOWN  # noqa: E402

from src.datasets.cifar10 import CIFAR10DataModule  # noqa: E402

EPOCHS = 5
SHARPNESS = 2  # pixels of the picture per pixel of a page


def images(data_dir):
    """Return four training images (6, 4, c, h, w): unchanged, then as augmented in five epochs."""
    data = CIFAR10DataModule(data_dir)
    data.prepare_data()
    data.setup("fit")
    torch.manual_seed(1)
    chosen = data.train_set
    mean, std = (torch.tensor(part).view(-1, 1, 1) for part in (data.mean, data.std))
    augmented = [chosen.__getitems__([0, 1, 2, 3])[0] * std + mean for _ in range(EPOCHS)]
    unchanged = chosen.crops[:4, :, 4, 4].float() / 255
    return torch.stack([unchanged, *augmented]).clamp(0, 1)


def crops(columns, scheme):
    """Draw the images of an epoch in each column, on a light (0) or dark (1) page."""
    ink, page = PALETTE["ink"][scheme], PALETTE["page"][scheme]
    with rc_context({"text.color": ink, "axes.edgecolor": ink, "figure.facecolor": page}):
        figure = Figure(figsize=(4.4, 3.25), layout="constrained")
        axes = figure.subplots(4, len(columns))
        for column, shown in enumerate(columns):
            for row, image in enumerate(shown):
                axes[row, column].imshow(image.permute(1, 2, 0))
                axes[row, column].set(xticks=[], yticks=[])
            title = f"epoch\n{column}" if column else "in\nmemory"
            axes[0, column].set_title(title, fontsize=10)
        name = "crops-dark.png" if scheme else "crops.png"
        figure.savefig(HERE / name, dpi=SHARPNESS * SHOWN / 4.4)


if __name__ == "__main__":
    drawn = images(sys.argv[1])
    for number in (0, 1):
        crops(drawn, number)
