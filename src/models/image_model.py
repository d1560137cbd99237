"""What all tasks have in common: network, loss, optimizer, schedule and metrics: see src/models."""

import logging
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import MeanMetric, MetricCollection

from src.models.optimization import build_optimizer, build_schedules
from src.networks.build import build_network
from src.utils.errors import UserError
from src.utils.targets import instantiate

log = logging.getLogger(__name__)
Settings = Mapping[str, Any]
Batch = list[Tensor]  # images (b, c, h, w) and labels
Outputs = dict[str, Tensor]


class ImageModel(L.LightningModule):
    """A network that learns from images (b, *dims), with its loss, optimizer and metrics.

    A task is a subclass that calls save_hyperparameters and then `build`. A checkpoint contains all
    that a prediction needs: the hyperparameters, which are plain values, and the weights.
    """

    monitor, mode = "val_loss", "min"  # the metric that chooses best.ckpt
    shown: tuple[str, ...] = ("loss",)  # metrics in the log
    per_image = ""  # what the network returns, in words

    def build(
        self,
        num_outputs: int,
        loss: Settings,
        in_training: Settings,
        in_evaluation: Settings,
        offered: Settings,
    ) -> None:
        """Create network, loss and metrics as the hyperparameters say.

        loss: values for arguments of the loss that the settings do not set; in_training and
        in_evaluation: name -> metric, beside the loss; offered: values for arguments of the
        settings' own metrics.
        """
        hparams: Any = self.hparams
        self.num_outputs = num_outputs
        self.network = build_network(hparams.network, hparams.dims, num_outputs)
        self.example_input_array = torch.zeros(1, *hparams.dims)  # for the sizes in the summary
        self.loss = instantiate(hparams.loss, **loss)
        # nan stays nan
        in_training = {"loss": MeanMetric(nan_strategy="disable"), **in_training}
        in_evaluation = {**in_training, **in_evaluation}
        own = {}
        for name, settings in (hparams.metrics or {}).items():
            if name in in_evaluation:
                raise UserError(f"metrics.{name}: the model has a metric {name}: rename yours")
            own[name] = instantiate(settings, **offered)
        # clones: separate objects per stage, so that no stage counts the images of another
        self.train_metrics = MetricCollection({**in_training, **own}).clone(prefix="train_")
        self.val_metrics = MetricCollection({**in_evaluation, **own}).clone(prefix="val_")
        self.test_metrics = MetricCollection({**in_evaluation, **own}).clone(prefix="test_")

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.network(images)
        return outputs

    # --- one batch

    def training_step(self, batch: Batch, batch_idx: int) -> Outputs:
        return self.step(batch, "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> Outputs:
        return self.step(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> Outputs:
        return self.step(batch, "test")

    def step(self, batch: Batch, stage: str) -> Outputs:
        """Return the loss and the outputs of a batch, and add it to the metrics of the epoch."""
        images, labels = batch
        outputs, labels = self(images), self.as_target(labels)
        loss = self.loss(outputs, labels)
        # every metric takes the arguments that it knows; the loss counts once per image
        getattr(self, f"{stage}_metrics").update(
            preds=outputs.detach(),
            target=labels,
            value=loss.detach().expand(len(labels)),
        )
        return {"loss": loss, "logits": outputs}

    def as_target(self, labels: Tensor) -> Tensor:
        """Return labels as the loss and the metrics expect them."""
        return labels

    # --- one epoch

    def on_train_start(self) -> None:
        batches = self.trainer.accumulate_grad_batches
        if batches > 1:
            steps, epochs = self.trainer.estimated_stepping_batches, self.trainer.max_epochs
            log.info(f"optimizer steps: {steps} in {epochs} epochs, one per {batches} batches")

    def log_metrics(self, stage: str) -> None:
        # the objects, not their values: Lightning computes them, and resets them for the next epoch
        self.log_dict(getattr(self, f"{stage}_metrics"))

    def on_validation_epoch_end(self) -> None:
        self.log_metrics("val")

    def on_test_epoch_end(self) -> None:
        self.log_metrics("test")

    def on_train_epoch_end(self) -> None:
        self.log_metrics("train")
        self.step_plateau_schedule()
        # of the next step; the first group of parameters: others differ in their weight decay only
        self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"], sync_dist=True)
        # on_validation_epoch_end would run too early: the training means are not known yet
        metrics = self.trainer.callback_metrics
        log.info(
            f"epoch {self.current_epoch + 1:2d}/{self.trainer.max_epochs}"
            f"  {self.in_words('train', metrics)}  {self.in_words('val', metrics)}"
        )

    def on_train_end(self) -> None:
        last = self.trainer.max_epochs or 0
        if self.current_epoch < last:
            log.info(f"stopped early, after epoch {self.current_epoch}/{last}")

    def in_words(self, stage: str, metrics: Settings) -> str:
        """Return the metrics that the log shows: "test loss 0.5000 acc 0.8000"."""
        shown = (name for name in self.shown if f"{stage}_{name}" in metrics)
        return " ".join([stage, *(f"{name} {metrics[f'{stage}_{name}']:.4f}" for name in shown)])

    def metric_names(self) -> list[str]:
        """Return the names of the metrics that a training logs."""
        return sorted(
            {str(name) for part in (self.train_metrics, self.val_metrics) for name in part}
        )

    # --- optimization

    def configure_optimizers(self) -> Any:
        hparams: Any = self.hparams
        trainer = self._trainer  # None in a program without a Trainer
        optimizer = build_optimizer(
            self,
            hparams.optimizer,
            hparams.decay_all,
            fused=not (trainer and trainer.gradient_clip_val),
        )
        schedules = build_schedules(optimizer, hparams.schedule, trainer)
        return ([optimizer], schedules) if schedules else optimizer

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        if not isinstance(scheduler, ReduceLROnPlateau):
            super().lr_scheduler_step(scheduler, metric)

    def step_plateau_schedule(self) -> None:
        """Lower the learning rate if the monitored metric has stopped improving.

        Lightning would do so after last.ckpt of the epoch has been written, and never in an epoch
        that continues an interrupted one.
        """
        for config in self.trainer.lr_scheduler_configs:
            if config.reduce_on_plateau:
                plateau: Any = config.scheduler
                plateau.step(self.trainer.callback_metrics[str(config.monitor)].item())
