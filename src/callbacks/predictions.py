"""Write the prediction for every test image into the run's folder: see src/main.py."""

import csv
import logging
from collections import Counter
from pathlib import Path

import lightning as L
import torch
from torch.utils.data import DistributedSampler, SequentialSampler
from torchmetrics import CatMetric

log = logging.getLogger(__name__)


class SavePredictions(L.Callback):
    """Writes predictions.csv, and of classes confusion_matrix.csv, with the images of all ranks."""

    def __init__(self, class_names):
        self.class_names = class_names
        self.rows = CatMetric(nan_strategy="disable").set_dtype(torch.float64)  # exact indices

    def on_test_start(self, trainer, pl_module):
        self.rows.to(pl_module.device).reset()
        self.batches = None
        loader = trainer.test_dataloaders
        if isinstance(getattr(loader, "sampler", None), (SequentialSampler, DistributedSampler)):
            self.batches = iter(loader.batch_sampler)  # the indices of the images in each batch
        else:
            log.warning("no predictions.csv: the order of the test images is not known")

    def on_test_batch_end(self, trainer, pl_module, outputs, batch, *indices):
        if not self.batches:
            return
        labels = batch[1]
        if is_classification(outputs, batch):
            probabilities, predictions = outputs["logits"].float().softmax(dim=1).max(dim=1)
            columns = (labels, predictions, probabilities)
        elif is_regression(outputs, batch):
            columns = (*labels.view(len(labels), -1).T, *outputs["logits"].T)
        else:
            return
        images = torch.tensor(next(self.batches), device=labels.device)
        columns = [column.double() for column in (images, *columns)]
        self.rows.update(torch.stack(columns, dim=1))

    def on_test_end(self, trainer, pl_module):
        folder = trainer.log_dir  # a collective call, like compute: every rank takes part
        if not folder or not self.rows.update_count:
            return
        rows = self.rows.compute().tolist()
        if trainer.is_global_zero:
            # an image that a sampler has repeated counts once
            by_image = {int(image): row for image, *row in rows}
            write = self.write_classes if self.class_names else self.write_numbers
            write(Path(folder), sorted(by_image.items()))

    def write_numbers(self, folder, rows):
        count = len(rows[0][1]) // 2  # of numbers per image
        numbers = range(1, count + 1) if count > 1 else [""]
        names = [f"{kind}{number}" for kind in ("label", "prediction") for number in numbers]
        with (folder / "predictions.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["index", *names])
            writer.writerows([image, *(f"{number:.7g}" for number in row)] for image, row in rows)

    def write_classes(self, folder, rows):
        names, counts = self.class_names, Counter()
        with (folder / "predictions.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["index", "label", "prediction", "probability"])
            for image, (label, prediction, probability) in rows:
                label, prediction = names[int(label)], names[int(prediction)]
                writer.writerow([image, label, prediction, f"{probability:.6f}"])
                counts[label, prediction] += 1
        with (folder / "confusion_matrix.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["label", *names])  # one row per label, one column per prediction
            writer.writerows([label, *(counts[label, name] for name in names)] for label in names)


def is_classification(outputs, batch):
    """Return whether a step returned logits (b, classes) for a batch of images and labels (b,)."""
    match outputs, batch:
        case {"logits": torch.Tensor(ndim=2)}, [_, torch.Tensor(ndim=1) as labels]:
            return not labels.is_floating_point()
    return False


def is_regression(outputs, batch):
    """Return whether a step returned numbers (b, n) for a batch of images and as many labels."""
    match outputs, batch:
        case {"logits": torch.Tensor(ndim=2) as found}, [_, torch.Tensor() as labels]:
            return labels.is_floating_point() and labels.numel() == found.numel()
    return False
