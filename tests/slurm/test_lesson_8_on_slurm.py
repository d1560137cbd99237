"""Several processes, on two nodes of the practice cluster: make test."""

import re
import shutil
import sys

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from clone import ARGUMENTS_LESSON, epochs, final_accuracy
from log_lines import unexpected_lines

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

NUM_STEPS = 20
FIELDS = "State,NTasks,NodeList"
STEPS = ["--optimizer=SGD", "--learning_rate=0.05", f"--limit_train_batches={NUM_STEPS}"]
FAST = ["--arch=fully_connected", "--max_epochs=1"]
# runs run.py without augmentation, and saves losses and predictions of each process; the loader of
# lesson 7 gets the order of the later ones
DRIVER = """
import sys, torch, run
from torch.utils.data import DistributedSampler
from src.datasets.cifar10 import CIFAR10DataModule
from src.models.lightning_classifier import Classifier
from src.datasets import image_data_module as images

run.__file__ = __file__  # what Lightning starts again for the second process
CIFAR10DataModule.shift, CIFAR10DataModule.mirror = 0, False
if not hasattr(images, "training_share"):
    def ordered(self):
        sampler = DistributedSampler(self.train_set, 1, 0, seed=self.seed)
        return self.loader(self.train_set, sampler=sampler)
    images.ImageDataModule.train_dataloader = ordered
kept = {"train": [], "val": [], "test": []}
original = Classifier.step
def step(self, batch, stage):
    result = original(self, batch, stage)
    if not self.trainer.sanity_checking:
        logits = result["logits"].detach().clone()
        kept[stage].append((result["loss"].item(), logits, batch[1]))
    rank = self.trainer.global_rank
    if stage == "test":
        torch.save(kept, f"{self.trainer.log_dir}/kept-{rank}.pt")
    return result
Classifier.step = step
run.main()
"""


@pytest.fixture(scope="module")
def module_login_node(module_login_node):
    (module_login_node.folder / "driver.py").write_text(DRIVER)
    module_login_node.clone.git("switch", "--quiet", ARGUMENTS_LESSON)
    return module_login_node


@pytest.fixture
def login_node(module_login_node):
    module_login_node.clone.git("switch", "--quiet", ARGUMENTS_LESSON)
    shutil.rmtree(module_login_node.folder / "logs", ignore_errors=True)
    return module_login_node


def drive(module_login_node, name, *args, srun=()):
    """Run the driver, here or with srun, and return the folder of its logs."""
    words = [sys.executable, "driver.py", "--local", *FAST, *STEPS, f"--experiment_name={name}"]
    done = module_login_node.clone.run(
        *srun, *words, "--run_number=0", *args, env=module_login_node.env
    )
    assert done.returncode == 0, done.stderr
    return module_login_node.folder / f"logs/{name}/version_0"


def kept_of(folder, num_processes):
    return [
        torch.load(folder / f"kept-{rank}.pt", weights_only=True) for rank in range(num_processes)
    ]


def losses(folder, num_processes):
    rows = [[loss for loss, _, _ in kept["train"]] for kept in kept_of(folder, num_processes)]
    return np.mean(rows, axis=0)


@pytest.fixture(scope="module")
def runs(module_login_node):
    """Runs of lessons 7 and 9 with one process, and of 9 with two, in three ways."""
    module_login_node.clone.git("switch", "--quiet", "7-changing-architectures")
    folders = {"lesson 7": (drive(module_login_node, "seven"), 1)}
    module_login_node.clone.git("switch", "--quiet", ARGUMENTS_LESSON)
    folders["one process"] = (drive(module_login_node, "one"), 1)
    folders["here"] = (drive(module_login_node, "here", "--devices=2"), 2)
    shapes = {"nodes": (2, 1), "devices": (1, 2)}
    for name, (nodes, devices) in shapes.items():
        srun = ["srun", f"--nodes={nodes}", f"--ntasks-per-node={devices}", "--mem=6G"]
        shape = [f"--num_nodes={nodes}", f"--devices={devices}"]
        folders[name] = (drive(module_login_node, name, *shape, srun=srun), 2)
    kept = module_login_node.folder.parent / "kept"
    shutil.copytree(module_login_node.folder / "logs", kept)
    return {name: (kept / path.relative_to(module_login_node.folder / "logs"), n)
            for name, (path, n) in folders.items()}  # fmt: skip


@pytest.mark.parametrize("name", ["one process", "here", "nodes", "devices"])
def test_the_loss_curve_equals_that_of_lesson_7_with_one_process(runs, name):
    expected, found = losses(*runs["lesson 7"]), losses(*runs[name])

    assert len(expected) == NUM_STEPS
    assert expected[-1] < expected[0]
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["here", "nodes", "devices"])
@pytest.mark.parametrize("stage", ["train", "val", "test"])
def test_the_metrics_of_two_processes_match_the_gathered_predictions(runs, name, stage):
    folder, num_processes = runs[name]
    rows = [row for kept in kept_of(folder, num_processes) for row in kept[stage]]
    logits, labels = torch.cat([row[1] for row in rows]), torch.cat([row[2] for row in rows])
    guesses, events = logits.argmax(dim=1), EventAccumulator(str(folder)).Reload()
    macro = {"average": "macro", "zero_division": 0}

    expected = {"acc": sklearn_metrics.accuracy_score(labels, guesses)}
    for metric in () if stage == "train" else ("precision", "recall", "f1"):
        score = getattr(sklearn_metrics, f"{metric}_score")
        expected[metric] = score(labels, guesses, **macro)
    expected["loss"] = torch.nn.functional.cross_entropy(logits, labels).item()

    assert len(labels) == {"train": 64 * NUM_STEPS, "val": 150, "test": 300}[stage]
    for metric, value in expected.items():
        [event] = events.Scalars(f"{stage}_{metric}")
        assert event.value == pytest.approx(value, abs=1e-5), metric


@pytest.mark.parametrize("name", ["here", "nodes"])
def test_confusion_matrix_and_pr_curves_cover_all_processes(runs, name):
    folder, num_processes = runs[name]
    rows = [row for kept in kept_of(folder, num_processes) for row in kept["val"]]
    logits, labels = torch.cat([row[1] for row in rows]), torch.cat([row[2] for row in rows])
    events = EventAccumulator(str(folder)).Reload()

    [text] = events.Tensors("confusion_matrix/text_summary")
    digits = re.findall(r"\d+", make_ndarray(text.tensor_proto).item().decode())
    [curve] = events.Tensors("pr_curve/airplane")

    expected = sklearn_metrics.confusion_matrix(labels, logits.argmax(dim=1), labels=range(10))
    assert np.array(digits, dtype=int).reshape(10, 10).tolist() == expected.tolist()
    tp, _, _, fn = make_ndarray(curve.tensor_proto)[:4, 0]
    assert tp + fn == (labels == 0).sum()


def test_four_processes_on_two_nodes_complete(login_node):
    # the pages train a whole ResNet in this way
    short = ["--arch=resnet18", "--max_epochs=1", "--limit_train_batches=5"]
    [job] = login_node.launch_jobs("--num_nodes=2", "--devices=2", *short)

    login_node.wait(job)

    assert login_node.accounting_state(job) == "COMPLETED"
    out, steps = login_node.log(job), login_node.sacct(job, FIELDS)
    assert "processes: 4 (nodes: 2, devices per node: 2), cpu, 32-true" in out
    assert "images per optimizer step: 64, per process: 16" in out
    assert steps[f"{job}.0"] | {"State": "COMPLETED", "NTasks": "4"} == steps[f"{job}.0"]
    assert steps[f"{job}.0"]["NodeList"] == "node[1-2]"
    assert unexpected_lines(out) == []
    assert login_node.log(job, "err") == ""
    assert len(epochs(out)) == 1
    assert final_accuracy(out) > 0


def test_the_plain_script_trains_on_all_its_nodes(login_node):
    done = login_node.clone.run("sbatch", "--parsable", "run.sh", *FAST, env=login_node.env)
    job = done.stdout.strip()

    login_node.wait(job)

    assert login_node.accounting_state(job) == "COMPLETED"
    assert login_node.sacct(job, FIELDS)[f"{job}.0"]["NTasks"] == "4"
    assert len(epochs((login_node.folder / f"slurm.{job}.out").read_text())) == 1
    assert (login_node.folder / f"logs/sbatch/cifar10/version_{job}/hparams.yaml").is_file()
