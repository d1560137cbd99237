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
    """Writes predictions.csv and confusion_matrix.csv, with the images of all ranks."""

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
        if self.batches and is_classification(outputs, batch):
            labels = batch[1]
            probabilities, predictions = outputs["logits"].float().softmax(dim=1).max(dim=1)
            images = torch.tensor(next(self.batches), device=labels.device)
            columns = (images, labels, predictions, probabilities)
            self.rows.update(torch.stack([column.double() for column in columns], dim=1))

    def on_test_end(self, trainer, pl_module):
        folder = trainer.log_dir  # a collective call, like compute: every rank takes part
        if not folder or not self.rows.update_count:
            return
        rows = self.rows.compute().tolist()
        if trainer.is_global_zero:
            # an image that a sampler has repeated counts once
            by_image = {int(image): row for image, *row in rows}
            self.write(Path(folder), sorted(by_image.items()))

    def write(self, folder, rows):
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
