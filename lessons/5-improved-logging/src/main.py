"""Train a fully connected network on MNIST: python run.py [arguments]"""

import logging
import sys
from inspect import signature

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.profilers import SimpleProfiler
from lightning.pytorch.utilities import rank_zero_only
from torch import nn
from torch.utils.data import DataLoader, random_split
from torchmetrics import Accuracy, F1Score, MeanMetric, MetricCollection, Precision, Recall
from torchvision import transforms
from torchvision.datasets import MNIST

from data.check import check_data
from src.callbacks.done import CleanStart, EndAtCtrlC, StopIfDiverged, write_done
from src.callbacks.predictions import SavePredictions
from src.callbacks.progress import ProgressBar
from src.callbacks.summary import NetworkSummary
from src.callbacks.tensorboard import TensorBoardPlots
from src.utils.library_messages import hide_library_messages
from src.utils.workers import prepare_workers

log = logging.getLogger(__name__)


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
        optimizer="Adam",  # class of torch.optim
        criterion="cross_entropy",  # function of torch.nn.functional
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
        self.example_input_array = torch.zeros(1, 1, 28, 28)  # for the sizes in the summary
        # without checking each batch, which would take longer than counting it
        task = {"task": "multiclass", "num_classes": 10, "validate_args": False}
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
        absent = [name for name, count in zip(MNIST.classes, counts, strict=True) if not count]
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


def log_to_stdout():
    """Log to standard output, which Slurm writes to slurm_out_logs; only rank 0 logs."""
    logging.basicConfig(stream=sys.stdout, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("src").setLevel("INFO" if rank_zero_only.rank == 0 else "ERROR")


def make_trainer(hparams):
    return L.Trainer(
        devices=1,
        max_epochs=hparams.max_epochs,
        logger=TensorBoardLogger(
            hparams.log_path,
            name=hparams.experiment_name,
            version=hparams.run_number,
            default_hp_metric=False,
        ),
        profiler=SimpleProfiler(filename="profile"),
        # at SIGUSR1, Lightning would save its state in the folder of all runs, and requeue the job
        plugins=[SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else [],
        callbacks=[
            ModelCheckpoint(monitor="val_acc", mode="max"),
            CleanStart(),
            StopIfDiverged(),
            EndAtCtrlC(),
            *([ProgressBar()] if sys.stdout.isatty() else []),  # a bar is of no use in a log
            NetworkSummary(),
            SavePredictions(MNIST.classes),
            *([TensorBoardPlots(MNIST.classes)] if hparams.plots else []),
        ],
        enable_model_summary=False,
        enable_progress_bar=False,  # Lightning's own takes several lines
    )


def main(hparams):
    log_to_stdout()
    hide_library_messages()
    prepare_workers()
    log.info(check_data(f"{hparams.data_dir}/MNIST"))
    L.seed_everything(hparams.seed)
    train_loader, val_loader, test_loader = make_loaders(hparams)
    model = Classifier(
        learning_rate=hparams.learning_rate,
        optimizer=hparams.optimizer,
        criterion=hparams.criterion,
    )
    # all settings of the run, for hparams.yaml and the checkpoint
    model.save_hyperparameters(vars(hparams))
    trainer = make_trainer(hparams)
    log.info(f"device: {trainer.strategy.root_device}, logs: {trainer.log_dir}")
    trainer.fit(model, train_loader, val_loader)
    [metrics] = trainer.test(
        dataloaders=test_loader,
        ckpt_path="best",
        weights_only=True,
        verbose=False,
    )
    log.info(f"test loss {metrics['test_loss']:.4f} acc {metrics['test_acc']:.4f}")
    log.info(f"logs: {write_done(trainer, metrics)}")
