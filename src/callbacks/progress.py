"""Show the progress of an epoch on a terminal: see src/main.py."""

import sys

import lightning as L
from tqdm import tqdm


class ProgressBar(L.Callback):
    """Shows one line with the loss and the images per second over all processes."""

    bar = None

    def on_train_epoch_start(self, trainer, pl_module):
        self.bar = tqdm(
            desc=f"epoch {trainer.current_epoch + 1:2d}/{trainer.max_epochs}",
            total=trainer.num_training_batches,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
            leave=False,  # the line of the finished epoch replaces it
            file=sys.stdout,
            disable=not trainer.is_global_zero,
        )

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        # at most ten times per second, since reading the loss makes the program wait for the GPU
        if self.bar.update():
            batches_per_second = self.bar.format_dict["rate"] or 0
            images_per_second = batches_per_second * len(batch[0]) * trainer.world_size
            loss = f"loss {outputs['loss'].item():.4f}"
            self.bar.set_postfix_str(f"{loss}, {images_per_second:.0f} images/s", refresh=False)

    def on_train_epoch_end(self, trainer, pl_module):
        self.bar.close()

    def on_exception(self, trainer, pl_module, exception):
        if self.bar is not None:
            self.bar.close()
