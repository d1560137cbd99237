"""Average the weights over the training; the average is validated, saved and tested.

EMA and SWA build on Lightning's WeightAveraging. What they add: a training that is interrupted
takes the same steps, the test uses the average, and so does a validation only when there is one.
best.ckpt contains the average; last.ckpt also the weights that the training goes on with.
"""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging
from lightning.pytorch.callbacks.weight_averaging import WeightAveraging

from src.utils.errors import UserError

State = dict[str, Any]


class ExactAveraging(WeightAveraging):
    """The base of both averages."""

    swapped = False  # whether the model has the average, as during the validation

    @property
    def has_begun(self) -> bool:
        """Whether there is an average; before, Lightning has a copy of the initial weights."""
        return self._average_model is not None and bool(self._average_model.n_averaged > 0)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._average_model is not None and self._device is None:
            # Lightning has copied the model before it moved it to the GPU
            self._average_model.to(pl_module.device)

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit" and self.has_begun:
            super().on_validation_epoch_start(trainer, pl_module)
            self.swapped = True

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.swapped:
            super().on_validation_epoch_end(trainer, pl_module)
            self.swapped = False

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.has_begun:
            super().on_train_end(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: State
    ) -> None:
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        trained = checkpoint["current_model_state"]
        if self.swapped:
            checkpoint["current_model_state"] = checkpoint["state_dict"]
            checkpoint["state_dict"] = trained
        elif not self.has_begun:
            checkpoint["state_dict"] = trained

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: State
    ) -> None:
        if trainer.state.fn == "fit":  # otherwise the model has just got the average
            super().on_load_checkpoint(trainer, pl_module, checkpoint)


class EMA(ExactAveraging, EMAWeightAveraging):
    """Exponential moving average: after each step, decay * average + (1 - decay) * weights.

    Batch norm's statistics are averaged, too. Arguments: those of Lightning's EMAWeightAveraging.
    """


class SWA(ExactAveraging):
    """Stochastic weight averaging: the mean of the weights at the ends of the last epochs.

    Izmailov et al., Averaging Weights Leads to Wider Optima and Better Generalization, 2018. Batch
    norm's statistics are averaged, too, instead of computed again. The learning rate is left to the
    schedule.
    """

    def __init__(self, start: float = 0.75) -> None:
        """Begin with the epoch after this share of the training, 0 to 1.

        Raises:
            ValueError: if it is not in this range.
        """
        if not 0 <= start < 1:
            raise ValueError(f"start is {start}, but must be at least 0 and less than 1")
        super().__init__()
        self.start = start
        self.is_due = False

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        begun = trainer.current_epoch >= int(self.start * (trainer.max_epochs or 1))
        self.is_due = begun and trainer.is_last_batch  # before the validation of this epoch
        super().on_train_batch_end(trainer, *args)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return step_idx is not None and self.is_due


def refuse_other_averages(callbacks: list[L.Callback]) -> None:
    """Refuse Lightning's own callbacks.

    Raises:
        UserError: if one of them is there.
    """
    for callback in callbacks:
        inexact = isinstance(callback, WeightAveraging) and not isinstance(callback, ExactAveraging)
        if inexact or isinstance(callback, StochasticWeightAveraging):
            name = type(callback).__name__
            raise UserError(
                f"callbacks: a training with {name} cannot continue exactly after an interruption:"
                " use src.callbacks.averaging.EMA or src.callbacks.averaging.SWA"
            )
