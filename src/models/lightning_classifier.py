"""The task of classification, one class per image: see src/main.py."""

import logging

import torch
from torchmetrics import Accuracy, F1Score, Precision, Recall

from src.models.image_model import ImageModel
from src.utils.errors import UserError
from src.utils.targets import TARGET, find_target, parameters

log = logging.getLogger(__name__)


class Classifier(ImageModel):
    """A network that classifies images, with its loss, optimizer and metrics.

    It maps images to one score per class, (b, classes); labels are class numbers (b,), int64. Its
    hyperparameters are dims (c, h, w), the names of the classes, the mean and std per channel that
    normalise images in [0, 1], and settings with _target_ (see src/utils/targets.py).

    Raises:
        UserError: if there are fewer than two classes, or if a part cannot be built.
    """

    monitor, mode = "val_acc", "max"
    shown = ("loss", "acc")
    per_image = "one per image and class"

    def __init__(
        self,
        network,
        dims,
        classes,
        mean=(),
        std=(),
        *,
        loss,
        optimizer,
        schedule=None,  # none: the learning rate is constant
        metrics=None,  # name -> settings of a metric, beside those of this class
        class_weights=None,  # of the loss: one number per class
        decay_all=False,  # weight decay for norms and biases, too
    ):
        super().__init__()
        num_classes = len(classes)
        if num_classes < 2:
            task = "to recognise one kind of image, add a second class of other images"
            raise UserError(f"a classifier needs at least two classes, not {num_classes}: {task}")
        self.save_hyperparameters()
        self.warned_of = set()  # stages in which a class is absent
        task = {"task": "multiclass", "num_classes": num_classes}
        # without checking each batch, which would take longer than counting it
        unchecked = {**task, "validate_args": False}
        mean_over_classes = {**unchecked, "average": "macro"}
        self.build(
            num_classes,
            loss=weight_of_classes(loss, class_weights, num_classes),
            in_training={"acc": Accuracy(**unchecked, average="micro")},
            in_evaluation={
                "precision": Precision(**mean_over_classes),
                "recall": Recall(**mean_over_classes),
                "f1": F1Score(**mean_over_classes),
            },
            offered=task,
        )

    def columns(self):
        """Return the names of what `rows` returns: the predicted class, and a score per class."""
        return ["prediction", *self.hparams.classes]

    def rows(self, outputs):
        """Return a row per image: the name of its class, and the probabilities of all classes."""
        names, probabilities = self.hparams.classes, outputs.softmax(dim=1)
        chosen = probabilities.argmax(dim=1).tolist()
        return [
            [names[number], *(f"{value:.6f}" for value in row)]
            for number, row in zip(chosen, probabilities.tolist(), strict=True)
        ]

    def label_faults(self, labels):
        """Yield a sentence for each thing that is wrong with the labels of some images."""
        count = len(self.hparams.classes)
        if labels.dtype != torch.int64 or labels.ndim != 1:
            found = f"{labels.dtype} of shape {tuple(labels.shape)}"
            yield f"the labels are {found}, but must be torch.int64 of shape ({len(labels)},)"
        for label in labels[(labels < 0) | (labels >= count)].tolist():
            yield f"a label is {label}, but the labels of {count} classes are 0 to {count - 1}"

    def log_metrics(self, stage):
        if stage != "train":
            self.warn_of_absent_classes(stage)
        super().log_metrics(stage)

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


def weight_of_classes(loss, class_weights, num_classes):
    """Return the argument of the loss that weights the classes.

    Raises:
        UserError: if there is not one weight per class, or if the loss takes no weights.
    """
    if class_weights is None:
        return {}
    if len(class_weights) != num_classes:
        count = len(class_weights)
        raise UserError(f"class_weights: {count} numbers, but there are {num_classes} classes")
    if "weight" not in parameters(find_target(loss[TARGET])):
        raise UserError(f"class_weights: {loss[TARGET]} has no argument weight: set them to null")
    return {"weight": torch.tensor(class_weights, dtype=torch.float32)}
