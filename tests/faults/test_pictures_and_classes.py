"""Data with too many classes for a picture, or without images of a class: make test."""

import sys

import pytest

from clone import ARGUMENTS_LESSON

# 30 classes, of which the images show 29
MANY_CLASSES = """
import torch
from src.datasets.image_data_module import ImageDataModule


class ManyClassesDataModule(ImageDataModule):
    dims, mean, std = (1, 4, 4), (0.0,), (1.0,)
    classes = [f"class {number}" for number in range(30)]

    def prepare_data(self):
        pass

    def read(self, train):
        labels = torch.arange(2900) % 29
        return labels.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4), labels
"""


@pytest.mark.slow
def test_too_many_classes_and_an_absent_class_are_reported(module_clone, page):
    module_clone.git("switch", "--quiet", ARGUMENTS_LESSON)
    (module_clone.folder / "src/datasets/many_classes.py").write_text(MANY_CLASSES)
    command = ["run.py", "--local", "--dataset=many_classes", "--arch=fully_connected"]

    done = module_clone.run(sys.executable, *command, "--max_epochs=3")

    assert done.returncode == 0, done.stderr
    page("TensorBoard shows no picture", done.stdout)
    page("A class is absent from the metrics", done.stdout)
    assert "neither labels nor predictions: class 29\n" in done.stdout
