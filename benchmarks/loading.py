"""Images per second: CIFAR-10 in memory compared with torchvision's pipeline for single images.

python benchmarks/loading.py DATA [rounds]   (DATA contains cifar-10-batches-py)

It measures the data module of lesson 9.
"""

import statistics
import sys
import time

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from lesson import exported
from machine import machine

BATCH_SIZE, NUM_IMAGES = 64, 12_800


class SingleImages(Dataset):
    """The training images, each opened, shifted, mirrored and normalised separately."""

    def __init__(self, data):
        images, self.labels = data.read(train=True)
        self.images = images.permute(0, 2, 3, 1).contiguous().numpy()  # (n, h, w, c)
        steps = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
        steps += [transforms.ToTensor(), transforms.Normalize(data.mean, data.std)]
        self.transform = transforms.Compose(steps)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def rate(loader):
    """Return images per second after the first batch, which also starts the workers."""
    counted, start = 0, None
    while counted < NUM_IMAGES:
        for images, _ in loader:
            if start is None:
                start = time.perf_counter()
            else:
                counted += len(images)
            if counted >= NUM_IMAGES:
                break
    return counted / (time.perf_counter() - start)


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit("python benchmarks/loading.py DATA [rounds]")
    torch.set_num_threads(1)
    rounds = int(sys.argv[2]) if len(sys.argv) == 3 else 5
    with exported(9) as lesson:
        sys.path.insert(0, lesson)
        from src.datasets.cifar10 import CIFAR10DataModule
    data = CIFAR10DataModule(sys.argv[1], batch_size=BATCH_SIZE)
    data.prepare_data()
    data.setup("fit")
    single = SingleImages(data)

    def pipeline(num_workers):
        more = {"num_workers": num_workers, "persistent_workers": num_workers > 0}
        return DataLoader(single, batch_size=BATCH_SIZE, shuffle=True, **more)

    loaders = {"single images, 0 workers": pipeline(0), "single images, 2 workers": pipeline(2)}
    loaders["in memory, 0 workers"] = data.train_dataloader()
    found = {name: [] for name in loaders}
    for _ in range(rounds):  # in turn, so that a slow minute of the machine affects all
        for name, loader in loaders.items():
            found[name].append(rate(loader))
    first = statistics.median(found["single images, 0 workers"])
    print(f"{'':26} images/s  speedup (lowest to highest round)")
    for name, rates in found.items():
        ratios = [
            value / base for value, base in zip(rates, next(iter(found.values())), strict=True)
        ]
        median = statistics.median(rates)
        spread = f"{min(ratios):.1f} to {max(ratios):.1f}"
        print(f"{name:26} {median:8.0f}  {median / first:5.1f} ({spread})")
    print(f"1 thread, batch {BATCH_SIZE}, {rounds} rounds; {machine()}")


if __name__ == "__main__":
    main()
