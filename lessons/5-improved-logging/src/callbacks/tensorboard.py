"""Draw images, predictions and weights for TensorBoard: tensorboard --logdir logs"""

import lightning as L
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.utils.data import default_collate
from torchmetrics import CatMetric, ConfusionMatrix


class TensorBoardPlots(L.Callback):
    """Draws what single numbers cannot show; all ranks take part, rank 0 writes."""

    def __init__(self, class_names):
        self.class_names = class_names
        self.confusion = ConfusionMatrix(task="multiclass", num_classes=len(class_names))
        self.probabilities = CatMetric(nan_strategy="disable")
        self.labels = CatMetric()
        self.accuracies = {}  # for the table of runs

    def on_train_start(self, trainer, pl_module):
        images, shown, names = self.first_images(trainer, 16)
        trainer.logger.experiment.add_figure("images/examples", draw(shown, names))
        trainer.logger.experiment.add_graph(pl_module, images[:1].to(pl_module.device))

    def on_validation_start(self, trainer, pl_module):
        for metric in (self.confusion, self.probabilities, self.labels):
            metric.to(pl_module.device).reset()

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, *indices):
        _, labels = batch
        probabilities = outputs["logits"].softmax(dim=1)  # (b, classes), each row adds up to 1
        self.confusion.update(probabilities, labels)
        self.probabilities.update(probabilities)
        self.labels.update(labels)

    def on_train_epoch_end(self, trainer, pl_module):
        writer, epoch = trainer.logger.experiment, trainer.current_epoch + 1
        for name, weights in pl_module.named_parameters():
            if weights.isfinite().all():  # a histogram cannot contain nan
                # equal bins: TensorBoard's own take four times as long
                writer.add_histogram(f"weights/{name}", weights, epoch, bins=64)
        matrix = self.confusion.compute().cpu().numpy()
        probabilities, labels = self.probabilities.compute(), self.labels.compute()
        for index, name in enumerate(self.class_names):
            writer.add_pr_curve(f"pr_curve/{name}", labels == index, probabilities[:, index], epoch)
        writer.add_text("confusion_matrix", f"```\n{matrix}\n```", epoch)
        if epoch % 5 == 0 or epoch == trainer.max_epochs:  # drawing takes a fifth of a second
            axes = Figure(figsize=(6, 6), layout="constrained").subplots()
            figure, _ = self.confusion.plot(ax=axes, labels=self.class_names, cmap="Blues")
            writer.add_figure("images/confusion_matrix", figure, epoch)

    def on_train_end(self, trainer, pl_module):
        images, shown, names = self.first_images(trainer, 1000)  # more would be slow in a browser
        logits, features = predict(pl_module, images)
        guesses = [self.class_names[index] for index in logits.argmax(dim=1)]
        titles = [f"{name}\nguess {guess}" for name, guess in zip(names, guesses, strict=True)]
        writer, epoch = trainer.logger.experiment, trainer.current_epoch
        writer.add_figure("images/predictions", draw(shown, titles), epoch)
        writer.add_embedding(features, names, shown, epoch, tag="validation")
        self.accuracies["hp/val_acc"] = trainer.checkpoint_callback.best_model_score

    def on_test_end(self, trainer, pl_module):
        self.accuracies["hp/test_acc"] = trainer.callback_metrics["test_acc"]
        trainer.logger.log_hyperparams(pl_module.hparams, self.accuracies)

    def first_images(self, trainer, count):
        """Return images (b, c, h, w), the same images scaled to [0, 1], and their class names."""
        dataset = trainer.val_dataloaders.dataset
        images, labels = default_collate([dataset[k] for k in range(min(count, len(dataset)))])
        shown = (images - images.min()) / (images.max() - images.min())
        return images, shown, [self.class_names[label] for label in labels]


def predict(module, images):
    """Return the logits (b, classes), and the inputs of the last linear layer (b, features).

    Without a linear layer, the features are the pixels of the images.
    """
    linear_layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    last = linear_layers[-1] if linear_layers else module
    features = []
    hook = last.register_forward_pre_hook(lambda layer, inputs: features.append(inputs[0]))
    was_training = module.training
    module.eval()
    with torch.no_grad():
        logits = module(images.to(module.device))
    module.train(was_training)
    hook.remove()
    return logits, features[0].flatten(1)


def draw(images, titles):
    figure = Figure(figsize=(6, 6), layout="constrained")
    for axes, image, title in zip(figure.subplots(4, 4).flat, images, titles, strict=False):
        axes.imshow(image.permute(1, 2, 0), cmap="gray")  # (c, h, w) -> (h, w, c)
        axes.set(title=title, xticks=[], yticks=[])
    return figure
