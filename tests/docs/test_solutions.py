"""Solutions of challenges, applied and run without Slurm: make test.

The walk of the pages, make docs, applies all of them except those that need the internet.
"""

import hashlib
import re
import shutil
import sys
from contextlib import contextmanager

import pytest
import torch
import torchvision

from clone import ROOT

pytestmark = pytest.mark.slow
BRANCHES = {int(path.name.split("-")[0]): path.stem for path in ROOT.glob("lessons/*-*.txt")}
# weights of our own in place of those that torchvision names
WITH_OTHER_WEIGHTS = """
import torchvision
default = type("Default", (), {"url": "https://example.org/NAME"})
torchvision.models.get_model_weights = lambda arch: type("Known", (), {"DEFAULT": default})
"""


@pytest.fixture
def solve(module_clone):
    """Return a context in which the solution of a challenge is applied."""

    @contextmanager
    def apply(number, name, clean=True):
        module_clone.git("switch", "--quiet", BRANCHES[number])
        patch = f"docs/solutions/{number}-{name}.patch"
        module_clone.git("apply", patch)
        yield
        module_clone.git("apply", "--reverse", patch)
        assert not clean or module_clone.git("status", "--short") == ""

    return apply


@pytest.fixture
def train(module_clone, warm_python):
    def train(*arguments, before="", **env):
        words = ["run.py", "--local", *arguments]
        done = warm_python.run(*words, cwd=module_clone.folder, before=before, timeout=300, **env)
        assert done.returncode == 0, done.stderr
        return done

    return train


@pytest.fixture
def challenge(module_clone):
    """Return a function that prints check.py's verdict on a challenge."""

    def check(name):
        done = module_clone.run(sys.executable, "check.py", f"--challenge={name}")
        assert done.stderr == ""
        return done.stdout

    return check


def test_a_run_with_two_solutions_of_lesson_5_passes_both(solve, train, challenge, module_clone):
    page = (ROOT / "docs/lessons/5.md").read_text()
    shown = re.findall(r"^0\.\d,\d+,.*$", page, re.MULTILINE)
    with solve(5, "console"), solve(5, "pr-curve", clean=False):
        done = train("--experiment_name=curve", "--max_epochs=3")
    logs = module_clone.folder / "logs"
    for stream, text in (("out", done.stdout), ("err", done.stderr)):
        (logs / f"curve/slurm_{stream}_logs").mkdir()
        (logs / f"curve/slurm_{stream}_logs/version_0_7.{stream}").write_text(text)
    shutil.copytree(logs / "curve", logs / "console")
    settings = logs / "console/version_0/hparams.yaml"
    settings.write_text(settings.read_text().replace("name: curve", "name: console"))

    assert challenge("pr-curve").startswith("PASS 4/4: challenge pr-curve (")
    assert challenge("console").startswith("PASS 3/3: challenge console (")
    table = (logs / "curve/version_0/pr_curve.csv").read_text()
    assert len(shown) == 3
    assert set(shown) <= set(table.splitlines())


def test_a_data_set_with_other_choices_is_recognised(solve, train, challenge):
    with solve(6, "four-choices"):
        train("--dataset=plain")

    assert challenge("four-choices").startswith("PASS 5/5: challenge four-choices (")


def test_only_the_last_layer_is_trained(solve, train, challenge, tmp_path):
    weights = tmp_path / "hub/checkpoints/weights.pth"
    weights.parent.mkdir(parents=True)
    torch.save(torchvision.models.resnet18().state_dict(), weights)
    name = f"resnet18-{hashlib.sha256(weights.read_bytes()).hexdigest()[:8]}.pth"
    weights.rename(weights.with_name(name))
    before = WITH_OTHER_WEIGHTS.replace("NAME", name)
    arguments = ["--weights=DEFAULT", "--max_epochs=2"]
    arguments += ["--limit_train_batches=2", "--limit_val_batches=1"]
    with solve(7, "last-layer"):
        train(*arguments, before=before, TORCH_HOME=str(tmp_path))

    assert challenge("last-layer").startswith("PASS 3/3: challenge last-layer (")
