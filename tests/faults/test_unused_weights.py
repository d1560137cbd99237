"""A network with weights that take no part in the loss: make test."""

import sys

import pytest

from clone import ARGUMENTS_LESSON, final_accuracy

TWO_HEADS = """
from torch import nn


class TwoHeads(nn.Module):
    def __init__(self, dims, num_classes):
        super().__init__()
        pixels = dims[0] * dims[1] * dims[2]
        self.used, self.unused = (nn.Linear(pixels, num_classes) for _ in range(2))

    def forward(self, images):
        return self.used(images.flatten(1))
"""


@pytest.mark.slow
def test_unused_weights_in_several_processes_name_an_argument_of_run_py(module_clone, page):
    module_clone.git("switch", "--quiet", ARGUMENTS_LESSON)
    (module_clone.folder / "src/networks/two_heads.py").write_text(TWO_HEADS)
    command = [sys.executable, "run.py", "--local", "--arch=two_heads", "--devices=2"]
    short = ["--max_epochs=1", "--limit_train_batches=3"]

    refused = module_clone.run(*command, *short)
    allowed = module_clone.run(*command, *short, "--find_unused_parameters")

    assert refused.returncode == 1
    page("Some weights take no part in the loss", refused.stderr)
    assert "Traceback" not in refused.stderr
    assert allowed.returncode == 0, allowed.stderr
    assert final_accuracy(allowed.stdout) > 0
