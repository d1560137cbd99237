"""Train a fully connected network on MNIST: python run.py [arguments]"""

import sys

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.environments import SLURMEnvironment
from torch import nn
from torch.utils.data import DataLoader, random_split
from torchvision import transforms
from torchvision.datasets import MNIST

from data.check import check_data
from src.callbacks.done import CleanStart, EndAtCtrlC, StopIfDiverged, write_done
from src.callbacks.progress import ProgressBar
from src.utils.library_messages import hide_library_messages
from src.utils.workers import prepare_workers


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
        num_workers=hparams.num_workers,
    )
    val_loader = DataLoader(
        val_set,
        batch_size=hparams.batch_size,
        num_workers=hparams.num_workers,
    )
    test_loader = DataLoader(
        test_set,
        batch_size=hparams.batch_size,
        num_workers=hparams.num_workers,
    )
    return train_loader, val_loader, test_loader


class Classifier(L.LightningModule):
    """A network of three fully connected layers, 784-128-256-10, and how it is trained."""

    def __init__(
        self,
        learning_rate=1e-3,
    ):
        super().__init__()
        self.save_hyperparameters()
        self.network = nn.Sequential(
            nn.Flatten(),  # (b, 1, 28, 28) -> (b, 784)
            nn.Linear(28 * 28, 128),
            nn.ReLU(),
            nn.Linear(128, 256),
            nn.ReLU(),
            nn.Linear(256, 10),  # (b, 10): one score per digit
        )

    def forward(self, images):
        return self.network(images)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.learning_rate)

    def training_step(self, batch, batch_idx):
        return self.step(batch, "train")

    def validation_step(self, batch, batch_idx):
        self.step(batch, "val")

    def test_step(self, batch, batch_idx):
        self.step(batch, "test")

    def step(self, batch, stage):
        """Return the loss of a batch; log the means over all images of the epoch."""
        images, labels = batch
        logits = self(images)
        loss = F.cross_entropy(logits, labels)
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        self.log(
            f"{stage}_loss",
            loss,
            on_step=False,
            on_epoch=True,
        )
        self.log(f"{stage}_acc", accuracy, on_step=False, on_epoch=True)
        return loss

    def on_train_epoch_end(self):
        # on_validation_epoch_end would run too early: the training means are not known yet
        metrics = self.trainer.callback_metrics
        self.print(
            f"epoch {self.current_epoch + 1:2d}/{self.trainer.max_epochs}"
            f"  train loss {metrics['train_loss']:.4f} acc {metrics['train_acc']:.4f}"
            f"  val loss {metrics['val_loss']:.4f} acc {metrics['val_acc']:.4f}"
        )


def make_trainer(hparams):
    return L.Trainer(
        devices=1,
        max_epochs=hparams.max_epochs,
        logger=TensorBoardLogger(
            hparams.log_path,
            name=hparams.experiment_name,
            version=hparams.run_number,
        ),
        # at SIGUSR1, Lightning would save its state in the folder of all runs, and requeue the job
        plugins=[SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else [],
        callbacks=[
            ModelCheckpoint(monitor="val_acc", mode="max"),
            CleanStart(),
            StopIfDiverged(),
            EndAtCtrlC(),
            *([ProgressBar()] if sys.stdout.isatty() else []),  # a bar is of no use in a log
        ],
        enable_model_summary=False,
        enable_progress_bar=False,  # Lightning's own takes several lines
    )


def main(hparams):
    hide_library_messages()
    prepare_workers()
    print(check_data(f"{hparams.data_dir}/MNIST"))
    L.seed_everything(hparams.seed)
    train_loader, val_loader, test_loader = make_loaders(hparams)
    model = Classifier(
        learning_rate=hparams.learning_rate,
    )
    # all settings of the run, for hparams.yaml and the checkpoint
    model.save_hyperparameters(vars(hparams))
    trainer = make_trainer(hparams)
    print(f"device: {trainer.strategy.root_device}, logs: {trainer.log_dir}")
    trainer.fit(model, train_loader, val_loader)
    [metrics] = trainer.test(
        dataloaders=test_loader,
        ckpt_path="best",
        weights_only=True,
        verbose=False,
    )
    print(f"test loss {metrics['test_loss']:.4f} acc {metrics['test_acc']:.4f}")
    print(f"logs: {write_done(trainer, metrics)}")
