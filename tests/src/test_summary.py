"""The summary of the network in the log: make test-fast."""

import logging

import lightning as L
import pytest
import torch
from torch import nn

from log_lines import summary_lines, unexpected_lines
from src.callbacks.summary import NetworkSummary


class Module(L.LightningModule):
    def __init__(self, num_layers):
        super().__init__()
        self.network = nn.Sequential(*(nn.Linear(2, 2) for _ in range(num_layers)))
        self.example_input_array = torch.zeros(1, 2)

    def forward(self, images):
        return self.network(images)


def summary(module, caplog):
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    with caplog.at_level(logging.INFO, logger="src"):
        NetworkSummary().on_fit_start(trainer, module)
    [record] = [record for record in caplog.records if record.name.startswith("src.")]
    return record.getMessage()


@pytest.mark.parametrize("num_layers", [1, 9, 10, 40])
def test_the_summary_has_ten_lines_at_most(num_layers, caplog):
    lines = summary(Module(num_layers), caplog).splitlines()

    assert lines[0] == f"network: {6 * num_layers} parameters"
    assert len(lines) == min(num_layers, 9) + 1
    assert (lines[-1] == f"  and {num_layers - 8} more blocks") is (num_layers > 9)
    assert unexpected_lines("\n".join(lines)) == []
    assert len(summary_lines("INFO " + "\n".join(lines))) == len(lines)


def test_frozen_parameters_are_counted(caplog):
    module = Module(3)
    module.network[0].requires_grad_(False)

    assert summary(module, caplog).startswith("network: 18 parameters, 6 frozen\n")
