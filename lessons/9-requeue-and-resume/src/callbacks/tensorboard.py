"""Draw images, predictions and weights for TensorBoard: tensorboard --logdir logs"""

import logging
import warnings
from contextlib import redirect_stdout

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from torch import nn
from torch.utils.data import default_collate
from torchmetrics import CatMetric
from torchmetrics.functional.classification import multiclass_confusion_matrix
from torchmetrics.utilities.plot import plot_confusion_matrix

from src.callbacks.predictions import is_classification

log = logging.getLogger(__name__)
MAX_CLASSES = 20  # a matrix larger than 20 x 20 is not readable


class TensorBoardPlots(L.Callback):
    """Draws what single numbers cannot show; rank 0 draws the images of all ranks."""

    def __init__(self, class_names):
        self.class_names = class_names
        self.probabilities = CatMetric(nan_strategy="disable")
        self.labels = CatMetric()
        self.accuracies = {}  # for the table of runs
        self.failed = set()  # names of pictures

    def setup(self, trainer, pl_module, stage):
        loggers = [each for each in trainer.loggers if isinstance(each, TensorBoardLogger)]
        self.logger = loggers[0] if loggers and trainer.is_global_zero else None

    def plot(self, name, draw, *args):
        """Draw a picture; if that fails, warn once and let the training continue."""
        if self.logger is None or name in self.failed:
            return
        try:
            # libraries print errors that they also raise, and warn about how they draw
            with redirect_stdout(None), warnings.catch_warnings(action="ignore"):
                draw(self.logger.experiment, *args)
        except Exception as error:
            self.failed.add(name)
            reason = str(error).strip().partition("\n")[0]
            log.warning(f"TensorBoard shows no {name}: {reason:.200} ({type(error).__name__})")

    def on_train_start(self, trainer, pl_module):
        if trainer.global_step:  # it continues: the first attempt has drawn them
            return
        self.plot("examples", self.draw_examples, trainer)
        self.plot("graph", self.draw_graph, trainer, pl_module)

    def draw_examples(self, writer, trainer):
        _, shown, labels = first_images(trainer, 16)
        writer.add_figure("images/examples", draw(shown, self.names(labels)))

    def draw_graph(self, writer, trainer, pl_module):
        images = pl_module.example_input_array
        if images is None:
            images, _, _ = first_images(trainer, 1)
        with torch.no_grad():  # otherwise nn.MultiheadAttention runs other code the second time
            writer.add_graph(pl_module, images.to(pl_module.device))

    def on_train_epoch_end(self, trainer, pl_module):
        self.plot("histograms", self.draw_weights, pl_module, trainer.current_epoch + 1)

    def draw_weights(self, writer, pl_module, epoch):
        for name, weights in pl_module.named_parameters():
            if weights.isfinite().all():  # a histogram cannot contain nan
                # equal bins: TensorBoard's own take four times as long
                writer.add_histogram(f"weights/{name}", weights, epoch, bins=64)

    def on_validation_start(self, trainer, pl_module):
        for metric in (self.probabilities, self.labels):
            metric.to(pl_module.device).reset()

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, *indices):
        if len(self.class_names) <= MAX_CLASSES and is_classification(outputs, batch):
            # each row adds up to 1, (b, classes)
            self.probabilities.update(outputs["logits"].float().softmax(dim=1))
            self.labels.update(batch[1])

    def on_validation_end(self, trainer, pl_module):
        if trainer.sanity_checking:
            return
        results = ()
        if self.labels.update_count:  # all ranks take part, since compute waits for all
            results = self.probabilities.compute(), self.labels.compute().long()
        self.plot("confusion matrix", self.draw_confusion_matrix, trainer, *results)
        self.plot("PR curves", self.draw_pr_curves, trainer, *results)

    def draw_confusion_matrix(self, writer, trainer, *results):
        self.check(results)
        epoch = trainer.current_epoch + 1
        matrix = multiclass_confusion_matrix(*results, len(self.class_names)).cpu()
        rows = np.array2string(matrix.numpy(), max_line_width=200)
        writer.add_text("confusion_matrix", f"```\n{rows}\n```", epoch)
        if epoch % 5 == 0 or epoch == trainer.max_epochs:  # drawing takes a fifth of a second
            size = max(6, len(self.class_names) / 2)  # inches
            axes = Figure(figsize=(size, size), layout="constrained").subplots()
            figure, _ = plot_confusion_matrix(matrix, axes, labels=self.class_names, cmap="Blues")
            writer.add_figure("images/confusion_matrix", figure, epoch)

    def draw_pr_curves(self, writer, trainer, *results):
        self.check(results)
        (probabilities, labels), epoch = results, trainer.current_epoch + 1
        for index, name in enumerate(self.class_names):
            writer.add_pr_curve(f"pr_curve/{name}", labels == index, probabilities[:, index], epoch)

    def check(self, results):
        """Raise ValueError if the results of the validation cannot be drawn by class."""
        if len(self.class_names) > MAX_CLASSES:
            too_many = f"{len(self.class_names)} classes are too many to read"
            raise ValueError(f"{too_many}, {MAX_CLASSES} at most; see confusion_matrix.csv")
        if not results:
            raise ValueError("validation_step returns no logits (b, classes)")

    def on_train_end(self, trainer, pl_module):
        self.plot("predictions", self.draw_predictions, trainer, pl_module)
        self.plot("projector", self.draw_projector, trainer, pl_module)
        best = getattr(trainer.checkpoint_callback, "best_model_score", None)
        if best is not None:
            self.accuracies["hp/val_acc"] = best

    def draw_predictions(self, writer, trainer, pl_module):
        images, shown, labels = first_images(trainer, 16)
        logits, _ = predict(pl_module, images)
        pairs = zip(self.names(labels), self.names(logits.argmax(dim=1)), strict=True)
        titles = [f"{name}\nguess {guess}" for name, guess in pairs]
        writer.add_figure("images/predictions", draw(shown, titles), trainer.current_epoch)

    def draw_projector(self, writer, trainer, pl_module):
        images, shown, labels = first_images(trainer, 1000)  # more would be slow in a browser
        _, features = predict(pl_module, images)
        names, epoch = self.names(labels), trainer.current_epoch
        writer.add_embedding(features, names, shown, epoch, tag="validation")

    def on_test_end(self, trainer, pl_module):
        self.plot("table of runs", self.draw_table, trainer, pl_module)

    def draw_table(self, writer, trainer, pl_module):
        self.accuracies["hp/test_acc"] = trainer.callback_metrics["test_acc"]
        self.logger.log_hyperparams(pl_module.hparams, self.accuracies)

    def names(self, labels):
        if labels.ndim != 1 or labels.is_floating_point():
            raise ValueError("the images have no class labels (b,)")
        return [self.class_names[label] for label in labels]


def first_images(trainer, count):
    """Return validation images (b, c, h, w), the same images scaled to [0, 1], and their labels."""
    dataset = trainer.val_dataloaders.dataset
    images, labels = default_collate([dataset[k] for k in range(min(count, len(dataset)))])
    shown = (images - images.min()) / (images.max() - images.min())
    if images.shape[1] not in (1, 3):  # neither grey nor coloured: show the mean of the channels
        shown = shown.mean(dim=1, keepdim=True)
    return images, shown, labels


def predict(module, images):
    """Return the logits (b, classes), and the inputs of the last linear layer (b, features).

    Without a linear layer, the features are the pixels of the images.
    """
    linear_layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    last = linear_layers[-1] if linear_layers else module
    features = []
    hook = last.register_forward_pre_hook(lambda layer, inputs: features.append(inputs[0].cpu()))
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            # not all at once, which could take more memory than a training step
            logits = [module(batch.to(module.device)).cpu() for batch in images.split(64)]
    finally:
        module.train(was_training)
        hook.remove()
    return torch.cat(logits), torch.cat(features).flatten(1)


def draw(images, titles):
    figure = Figure(figsize=(6, 6), layout="constrained")
    for axes, image, title in zip(figure.subplots(4, 4).flat, images, titles, strict=False):
        axes.imshow(image.permute(1, 2, 0), cmap="gray")  # (c, h, w) -> (h, w, c)
        axes.set(title=title, xticks=[], yticks=[])
    return figure
