"""Train a fully connected network on MNIST: bash run.sh, from the repository's root."""

import os
from argparse import Namespace

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, random_split
from torchvision import transforms
from torchvision.datasets import MNIST

from data.check import check_data

HPARAMS = Namespace(
    data_dir=os.environ.get("DATA_DIR", "data"),
    batch_size=64,  # images per optimizer step
    learning_rate=1e-3,
    max_epochs=10,
    seed=1234,
)


def make_loaders(hparams):
    """Return loaders of the training, validation (one tenth) and test images."""
    # mean and standard deviation of the pixels of MNIST's training images, in [0, 1]
    normalize = transforms.Normalize((0.1307,), (0.3081,))
    transform = transforms.Compose([transforms.ToTensor(), normalize])
    train_set = MNIST(hparams.data_dir, train=True, transform=transform)
    test_set = MNIST(hparams.data_dir, train=False, transform=transform)
    generator = torch.Generator().manual_seed(hparams.seed)
    train_set, val_set = random_split(train_set, [0.9, 0.1], generator=generator)
    train_loader = DataLoader(
        train_set,
        batch_size=hparams.batch_size,
        shuffle=True,
        generator=generator,
    )
    val_loader = DataLoader(
        val_set,
        batch_size=hparams.batch_size,
    )
    test_loader = DataLoader(
        test_set,
        batch_size=hparams.batch_size,
    )
    return train_loader, val_loader, test_loader


def make_network():
    """Return a network of three fully connected layers: 784-128-256-10."""
    return nn.Sequential(
        nn.Flatten(),  # (b, 1, 28, 28) -> (b, 784)
        nn.Linear(28 * 28, 128),
        nn.ReLU(),
        nn.Linear(128, 256),
        nn.ReLU(),
        nn.Linear(256, 10),  # (b, 10): one score per digit
    )


def run_epoch(network, loader, optimizer=None):
    """Pass over the images once, and train the network if there is an optimizer.

    Returns the mean loss and the accuracy over all images.
    """
    total_loss, num_correct, num_images = 0.0, 0, 0
    for images, labels in loader:
        logits = network(images)
        loss = F.cross_entropy(logits, labels)
        if optimizer is not None:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        # the last batch may be smaller, so the mean is taken over images, not over batches
        total_loss += loss.item() * len(labels)
        num_correct += (logits.argmax(dim=1) == labels).sum().item()
        num_images += len(labels)
    return total_loss / num_images, num_correct / num_images


def main(hparams):
    print(check_data(f"{hparams.data_dir}/MNIST"))
    torch.manual_seed(hparams.seed)
    train_loader, val_loader, test_loader = make_loaders(hparams)
    network = make_network()
    optimizer = torch.optim.Adam(network.parameters(), lr=hparams.learning_rate)
    for epoch in range(hparams.max_epochs):
        network.train()
        train_loss, train_acc = run_epoch(network, train_loader, optimizer)
        network.eval()
        with torch.no_grad():
            val_loss, val_acc = run_epoch(network, val_loader)
        print(
            f"epoch {epoch + 1:2d}/{hparams.max_epochs}"
            f"  train loss {train_loss:.4f} acc {train_acc:.4f}"
            f"  val loss {val_loss:.4f} acc {val_acc:.4f}"
        )
    with torch.no_grad():
        test_loss, test_acc = run_epoch(network, test_loader)
    print(f"test loss {test_loss:.4f} acc {test_acc:.4f}")


if __name__ == "__main__":
    main(HPARAMS)
