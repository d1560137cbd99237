"""Train and evaluate any network: see src/main.py."""

import logging
from inspect import signature

import lightning as L
import torch
import torch.nn.functional as F
from torchmetrics import Accuracy, F1Score, MeanMetric, MetricCollection, Precision, Recall

from src.networks.fully_connected import FullyConnected
from src.utils.errors import UserError

log = logging.getLogger(__name__)


class Classifier(L.LightningModule):
    """A network that classifies images, with its loss, optimizer and metrics.

    A checkpoint contains all that a prediction needs: the network, dims (c, h, w), the names of the
    classes, and the mean and std per channel that normalise images in [0, 1].
    """

    def __init__(
        self,
        dims,
        classes,
        mean=(),
        std=(),
        learning_rate=1e-3,
        optimizer="Adam",  # class of torch.optim
        criterion="cross_entropy",  # function of torch.nn.functional
    ):
        super().__init__()
        if len(classes) < 2:
            task = "to recognise one kind of image, add a second class of other images"
            raise UserError(f"a classifier needs at least two classes, not {len(classes)}: {task}")
        self.save_hyperparameters()
        self.network = FullyConnected(dims, len(classes))
        self.example_input_array = torch.zeros(1, *dims)  # for the sizes in the summary
        # without checking each batch, which would take longer than counting it
        task = {"task": "multiclass", "num_classes": len(classes), "validate_args": False}
        mean_over_classes = {**task, "average": "macro"}
        in_training = {
            "loss": MeanMetric(nan_strategy="disable"),  # nan stays nan
            "acc": Accuracy(**task, average="micro"),
        }
        in_evaluation = {
            **in_training,
            "precision": Precision(**mean_over_classes),
            "recall": Recall(**mean_over_classes),
            "f1": F1Score(**mean_over_classes),
        }
        # clones: separate objects per stage, so that no stage counts the images of another
        self.train_metrics = MetricCollection(in_training).clone(prefix="train_")
        self.val_metrics = MetricCollection(in_evaluation).clone(prefix="val_")
        self.test_metrics = MetricCollection(in_evaluation).clone(prefix="test_")
        self.warned_of = set()  # stages in which a class is absent

    def forward(self, images):
        return self.network(images)

    def configure_optimizers(self):
        optimizer = getattr(torch.optim, self.hparams.optimizer)
        # updates all parameters at once; not every optimizer in torch.optim supports it
        fused = {"fused": True} if "fused" in signature(optimizer).parameters else {}
        return optimizer(self.parameters(), lr=self.hparams.learning_rate, **fused)

    def training_step(self, batch, batch_idx):
        return self.step(batch, "train")

    def validation_step(self, batch, batch_idx):
        return self.step(batch, "val")

    def test_step(self, batch, batch_idx):
        return self.step(batch, "test")

    def step(self, batch, stage):
        """Return the loss and the logits of a batch, and add it to the metrics of the epoch."""
        images, labels = batch
        logits = self(images)
        loss = getattr(F, self.hparams.criterion)(logits, labels)
        # every metric takes the arguments that it knows; the loss counts once per image
        getattr(self, f"{stage}_metrics").update(
            preds=logits.detach(),
            target=labels,
            value=loss.detach().expand(len(labels)),
        )
        return {"loss": loss, "logits": logits}

    def log_metrics(self, stage):
        # the objects, not their values: Lightning computes them, and resets them for the next epoch
        self.log_dict(getattr(self, f"{stage}_metrics"))

    def warn_of_absent_classes(self, stage):
        """Warn once of the classes that torchmetrics leaves out of the means over classes."""
        if stage in self.warned_of or self.trainer.sanity_checking:
            return
        f1 = getattr(self, f"{stage}_metrics")[f"{stage}_f1"]
        with f1.sync_context():  # the images of all processes
            counts = (f1.tp + f1.fp + f1.fn).tolist()
        absent = [
            name for name, count in zip(self.hparams.classes, counts, strict=True) if not count
        ]
        if absent:
            self.warned_of.add(stage)
            names = ", ".join(absent[:10]) + (", ..." if len(absent) > 10 else "")
            log.warning(
                f"{stage}_precision, {stage}_recall and {stage}_f1 leave out classes"
                f" with neither labels nor predictions: {names}"
            )

    def on_validation_epoch_end(self):
        self.warn_of_absent_classes("val")
        self.log_metrics("val")

    def on_test_epoch_end(self):
        self.warn_of_absent_classes("test")
        self.log_metrics("test")

    def on_train_epoch_end(self):
        self.log_metrics("train")
        # on_validation_epoch_end would run too early: the training means are not known yet
        metrics = self.trainer.callback_metrics
        log.info(
            f"epoch {self.current_epoch + 1:2d}/{self.trainer.max_epochs}"
            f"  train loss {metrics['train_loss']:.4f} acc {metrics['train_acc']:.4f}"
            f"  val loss {metrics['val_loss']:.4f} acc {metrics['val_acc']:.4f}"
        )
