"""How a network is trained and measured, whatever its layers are: see src/main.py."""

import logging

import lightning as L
import torch
import torch.nn.functional as F
from torchmetrics import Accuracy, F1Score, MetricCollection, Precision, Recall

from src.models.resnet import resnet
from src.utils.find import RESNETS, find

log = logging.getLogger(__name__)


def make_network(hparams):
    if hparams.arch in RESNETS:
        return resnet(hparams.arch, hparams.dims, hparams.num_classes)
    return find("models", hparams.arch)(hparams.dims, hparams.num_classes)


class Classifier(L.LightningModule):
    """A network that tells classes of images apart, and how it is trained."""

    def __init__(self, hparams):
        super().__init__()
        self.save_hyperparameters(hparams)
        self.network = make_network(self.hparams)
        self.example_input_array = torch.zeros(1, *self.hparams.dims)  # shows the summary the sizes
        classes = {"task": "multiclass", "num_classes": self.hparams.num_classes}
        mean = {**classes, "average": "macro"}  # over the classes
        metrics = {"precision": Precision(**mean), "recall": Recall(**mean), "f1": F1Score(**mean)}
        metrics["acc"] = Accuracy(**classes, average="micro")
        # clones, so that no stage counts the images of another
        for stage in ("train", "val", "test"):
            setattr(self, f"{stage}_metrics", MetricCollection(metrics, prefix=f"{stage}_").clone())

    def forward(self, images):
        return self.network(images)

    def configure_optimizers(self):
        optimizer = getattr(torch.optim, self.hparams.optimizer)
        return optimizer(self.parameters(), lr=self.hparams.learning_rate)

    def training_step(self, batch, batch_idx):
        return self.step(batch, "train")

    def validation_step(self, batch, batch_idx):
        return self.step(batch, "val")

    def test_step(self, batch, batch_idx):
        self.step(batch, "test")

    def step(self, batch, stage):
        """Return loss and logits of a batch; log loss and metrics over all images of the epoch."""
        images, labels = batch
        logits = self(images)
        loss = getattr(F, self.hparams.criterion)(logits, labels)
        metrics = getattr(self, f"{stage}_metrics")
        metrics.update(logits, labels)
        # a float, or Lightning rounds the mean number of images where the processes' differ
        size = float(len(labels))
        self.log(
            f"{stage}_loss", loss, on_step=False, on_epoch=True, sync_dist=True, batch_size=size
        )
        # the objects, not their values: Lightning computes and resets them at the end of an epoch
        self.log_dict(metrics, on_step=False, on_epoch=True)
        return {"loss": loss, "logits": logits}

    def on_train_epoch_end(self):
        # on_validation_epoch_end would run too early: the training means are not there yet
        metrics = self.trainer.callback_metrics
        log.info(
            f"epoch {self.current_epoch + 1:2d}/{self.trainer.max_epochs}"
            f"  train loss {metrics['train_loss']:.4f} acc {metrics['train_acc']:.4f}"
            f"  val loss {metrics['val_loss']:.4f} acc {metrics['val_acc']:.4f}"
        )
