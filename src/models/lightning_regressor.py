"""The task of regression, one or more numbers per image: see src/main.py."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import MeanAbsoluteError, MeanSquaredError, R2Score

from src.models.image_model import ImageModel

Settings = Mapping[str, Any]


class Regressor(ImageModel):
    """A network that predicts numbers, with its loss, optimizer and metrics.

    It maps images to one number per target, (b, targets); labels are float32, (b,) or (b, targets).
    Its hyperparameters are those of Classifier, but with the names of the targets, not of classes.
    """

    monitor, mode = "val_rmse", "min"
    shown = ("loss", "mae")
    per_image = "one per image and target"

    def __init__(
        self,
        network: Settings,
        dims: list[int],
        targets: Sequence[str] = ("target",),
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
        *,
        loss: Settings,
        optimizer: Settings,
        schedule: Settings | None = None,
        metrics: dict[str, Settings] | None = None,
        decay_all: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.build(
            len(targets),
            loss={},
            in_training={"mae": MeanAbsoluteError()},
            in_evaluation={
                "rmse": MeanSquaredError(squared=False),
                "r2": R2Score(),
            },
            offered={"num_outputs": len(targets)},
        )

    def as_target(self, labels: Tensor) -> Tensor:
        return labels.view(len(labels), -1)  # (b,) -> (b, 1)

    def columns(self) -> list[str]:
        """Return the names of what `rows` returns."""
        return list(self.hparams["targets"])

    def rows(self, outputs: Tensor) -> list[list[str]]:
        """Return a row per image: the predicted numbers."""
        return [[f"{value:.6g}" for value in row] for row in outputs.tolist()]

    def label_faults(self, labels: Tensor) -> Iterator[str]:
        """Yield a sentence for each thing that is wrong with the labels of some images."""
        count = self.num_outputs
        if labels.dtype != torch.float32 or labels.numel() != len(labels) * count:
            found = f"{labels.dtype} of shape {tuple(labels.shape)}"
            yield f"the labels are {found}, but must be torch.float32 of shape (b, {count})"
        if not labels.isfinite().all():
            yield "a label is nan or infinite"
