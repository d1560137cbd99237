"""Runs from settings on a real cluster: what a job reads, and how it continues: make test."""

import json
import re
import sys

import pytest
import yaml

from login_node import WRAPPERS

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

PATIENCE = 300  # seconds for what takes ten on an idle machine
CUT = 7  # the step at which the first attempt gets the signal of the time limit
SETTINGS = [
    *("experiment=mnist_fully_connected", "slurm.mem_gb=2", "data.batch_size=90"),
    *("trainer.max_epochs=2", "optimizer=sgd", "schedule.warmup_epochs=0.5"),
    *("schedule=cosine", "schedule.T_max=40"),  # a length of its own: the run may become longer
    *("trusted=[step_trace]", "callbacks.trace={_target_: step_trace.Trace}"),
]
# notes what each step has used and computed, and its learning rate
TRACE = """
import json, os, signal
import lightning as L

class Trace(L.Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        images, labels = batch
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        step = [trainer.global_step, labels.tolist(), images.sum().item(), outputs["loss"].item()]
        with open(os.path.join(trainer.logger.log_dir, "trace.jsonl"), "a") as file:
            file.write(json.dumps([*step, rate]) + chr(10))
        if trainer.global_step == int(os.environ.get("CUT", "0")):
            os.kill(os.getpid(), signal.SIGUSR1)
"""


def steps_of(folder):
    return [json.loads(line) for line in (folder / "trace.jsonl").read_text().splitlines()]


def finish(node, job):
    node.wait(job, PATIENCE)
    assert node.accounting_state(job) == "COMPLETED", node.log(job) + node.log(job, "err")


def break_files(node):
    """Edit the program and its settings while a job waits."""
    kept = {}
    for name in ("src/main.py", "src/training.py", "configs/config.yaml"):
        file = node.folder / name
        kept[file] = file.read_text()
        file.write_text("raise SystemExit('edited while the job waited')\n")
    return kept


@pytest.mark.parametrize("wrapper", list(WRAPPERS)[1:])
def test_a_job_runs_what_was_submitted_and_can_be_repeated(module_login_node, wrapper):
    node = module_login_node
    (node.folder / "step_trace.py").write_text(TRACE)
    program = node.folder / "container"
    program.write_text(f"#!/bin/bash\nshift 3\n{WRAPPERS[wrapper]}\n")
    program.chmod(0o755)
    (node.folder / "site.sh").write_text(
        f'export REAL_PYTHON={sys.executable} PATH="{node.folder}:$PATH" VENV=/nowhere\n'
        'export PYTHON="container exec image.sif python"\n'
    )
    path = {"PYTHONPATH": str(node.folder)}

    # the program and the settings change while the job waits, and a signal interrupts it
    [job] = node.launch_jobs(*SETTINGS, "--", "--hold", CUT=str(CUT), **path)
    first = node.folder / "logs/mnist/version_0"
    kept = break_files(node)
    node.run(["scontrol", "release", job])
    finish(node, job)

    assert node.show(job)["Restarts"] == "1"
    assert [step[0] for step in steps_of(first)] == list(range(1, 31))
    assert (first / "DONE.json").exists()

    # the settings remain broken: the folder alone gives the same run, without an interruption
    for file, text in kept.items():
        if file.suffix == ".py":
            file.write_text(text)
    [job] = node.launch_jobs("--from", str(first), **path)
    second = node.folder / "logs/mnist/version_1"
    finish(node, job)

    assert (second / "config.yaml").read_bytes() == (first / "config.yaml").read_bytes()
    assert steps_of(second) == steps_of(first)
    assert len({step[4] for step in steps_of(first)}) > 20  # the learning rate follows a schedule

    # it continues with a longer training, in a job that reads the same file
    [job] = node.launch_jobs("--resume", str(second), "trainer.max_epochs=3", **path)
    finish(node, job)

    assert yaml.safe_load((second / "config.yaml").read_text())["trainer"]["max_epochs"] == 3
    assert [step[0] for step in steps_of(second)] == list(range(1, 46))
    assert len(re.findall(r"epoch +\d+/3 ", (second / "job.out").read_text())) == 1
