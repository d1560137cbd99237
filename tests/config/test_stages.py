"""What a run does besides the training: validate, test, predict."""

import csv
import json

import pytest
from torchvision.datasets import MNIST

pytestmark = pytest.mark.slow
# run.py replaces its process by that of the run, which would import everything again
SAME_PROCESS = """
import os, runpy, sys
def execv(program, words):
    sys.argv = words[1:]
    runpy.run_path(words[1], run_name="__main__")
    raise SystemExit
os.execv = execv
"""
SMALL = ["--local", "experiment=mnist_fully_connected", "plots=false"]


@pytest.fixture(scope="module")
def run_py(module_clone, warm_python):
    """Run run.py; return its exit code and all that it printed."""
    module_clone.git("switch", "--quiet", "main")

    def run(*words):
        done = warm_python.run(
            "run.py", *SMALL, *words, cwd=module_clone.folder, before=SAME_PROCESS
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.fixture(scope="module")
def digits(module_clone, sample_data):
    """Five digits of the test set as files, and their names."""
    folder = module_clone.folder / "logs/digits"
    folder.mkdir(parents=True)
    names = []
    for number, (image, label) in zip(range(5), MNIST(sample_data, train=False), strict=False):
        names.append(MNIST.classes[label])
        image.save(folder / f"{number}.png")
    return names


@pytest.fixture(scope="module")
def trained(run_py, digits, module_clone):
    """What a run of all stages printed, and its folder."""
    stages = "stage=[fit,validate,test,predict]"
    code, printed = run_py(stages, "predict=logs/digits", "trainer.max_epochs=3")
    assert code == 0, printed
    return printed, module_clone.folder / "logs/mnist/version_0"


BEST = "ckpt=logs/mnist/version_0/checkpoints/best.ckpt"


def line(printed, words):
    [found] = [line for line in printed.splitlines() if f" INFO {words} " in line]
    return found.partition(" INFO ")[2]


def test_all_stages_follow_each_other(trained):
    printed, folder = trained

    done = json.loads((folder / "DONE.json").read_text())
    assert line(printed, "val loss") == (
        f"val loss {done['val_loss']:.4f} acc {done['val_acc']:.4f}"
    )
    assert line(printed, "test loss").startswith(f"test loss {done['test_loss']:.4f} acc ")
    assert f"5 images: {folder.relative_to(folder.parents[2])}/predict.csv" in printed


def test_predictions_have_names_and_probabilities(trained, digits):
    _, folder = trained

    with (folder / "predict.csv").open() as file:
        rows = list(csv.DictReader(file))

    assert [row["file"] for row in rows] == [f"logs/digits/{n}.png" for n in range(5)]
    # the sample is easy: more than half of its digits are recognised after three epochs
    assert sum(row["prediction"] == name for row, name in zip(rows, digits, strict=True)) >= 3
    for row in rows:
        scores = {name: float(row[name]) for name in MNIST.classes}
        assert sum(scores.values()) == pytest.approx(1, abs=1e-5)
        assert max(scores, key=scores.get) == row["prediction"]


@pytest.mark.parametrize(("stage", "part"), [("validate", "val"), ("test", "test")])
def test_a_checkpoint_is_evaluated_without_training(run_py, trained, stage, part, module_clone):
    code, printed = run_py(f"stage={stage}", BEST, f"experiment_name={stage}")

    assert code == 0, printed
    assert line(printed, f"{part} loss") == line(trained[0], f"{part} loss")
    assert "epoch" not in printed
    folder = module_clone.folder / f"logs/{stage}/version_0"
    assert not (folder / "checkpoints").exists()


def test_a_checkpoint_predicts_the_same(run_py, trained, module_clone):
    files = ",".join(f"logs/digits/{number}.png" for number in range(5))

    code, printed = run_py("stage=predict", BEST, f"predict=[{files}]", "experiment_name=again")

    assert code == 0, printed
    before = (trained[1] / "predict.csv").read_text()
    assert (module_clone.folder / "logs/again/version_0/predict.csv").read_text() == before


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["stage=test", "ckpt=README.md"], "README.md is not a checkpoint of a Classifier"),
        (["stage=test", BEST, "data=cifar10"], "was trained on images (1, 28, 28) of 10 classes"),
        (["stage=predict", BEST, "predict=configs/data"], "can be read"),
    ],
    ids=["no checkpoint", "other images", "no images"],
)
def test_what_cannot_be_evaluated_is_refused(run_py, trained, words, expected, module_clone):
    code, printed = run_py(*words, "experiment_name=refused")

    assert code == 1
    assert expected in printed.splitlines()[-1], printed
    assert not list((module_clone.folder / "logs/refused").glob("version_*"))
