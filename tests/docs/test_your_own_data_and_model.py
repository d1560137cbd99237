"""What docs/your-own-data-and-model.md adds and runs, in a clone: make test."""

import ast
import csv
import re
import shutil
import sys

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from clone import ROOT, epochs, final_accuracy

PAGE = (ROOT / "docs/your-own-data-and-model.md").read_text()
NAMED = r"`((?:src|configs)/[\w./]+)`[^`]*?:\n\n```(?:python|yaml)\n(.*?)^```"
FILES = dict(re.findall(NAMED, PAGE, re.M | re.S))
BLOCKS = re.findall(r"^```(?:python|output|yaml|text)\n(.*?)^```", PAGE, re.M | re.S)
COMMANDS = re.findall(r"^python run\.py (.*?[^\\])\n", PAGE, re.M | re.S)
COLOURS = {"daisy": (200, 200, 200), "rose": (190, 60, 60), "violet": (100, 60, 190)}
COUNT = 60  # photos per class
HERE = "--local"

pytestmark = pytest.mark.slow


def block(beginning):
    """Return the block of the page that begins with these words."""
    [found] = [text for text in BLOCKS if text.lstrip().startswith(beginning)]
    return found


def command(*words):
    """Return the settings of the first command of the page that contains these words."""
    found = next(text for text in COMMANDS if all(word in text for word in words))
    return [word.strip("'") for word in found.replace("\\\n", " ").split()]


LOAD = block("from src.models")
[LOOK] = [text for text in BLOCKS if re.search("^mean, std = ", text, re.M)]


@pytest.fixture(scope="module")
def clone(module_clone):
    """A clone with the files of the page, and one folder of noisy photos per class."""
    rng, folder = np.random.default_rng(0), module_clone.folder
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    targets = ["file,split,target"]
    for target, (kind, colour) in enumerate(COLOURS.items()):
        (folder / "data/flowers" / kind).mkdir(parents=True)
        for number in range(COUNT):
            size = (24 + number % 3, 30, 3)
            pixels = np.clip(rng.normal(colour, 50, size), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"data/flowers/{kind}/{number}.png")
            part = "test" if number < 6 else "val" if number < 12 else "train"
            targets.append(f"{kind}/{number}.png,{part},{target - 1}")
    assert block("file,split").startswith(targets[0])
    (folder / "data/flowers/ages.csv").write_text("\n".join(targets) + "\n")
    return module_clone


@pytest.fixture(scope="module")
def train(clone):
    def train(*words):
        done = clone.run(sys.executable, "run.py", HERE, *words)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    return train


@pytest.fixture(scope="module")
def trained(train, clone):
    """The log of the page's experiment with its network and callback, and the folder of the run."""
    log = train(
        "experiment=flowers", "network=small_cnn", "callbacks=epoch_time", "optimizer.lr=0.01"
    )
    return log, clone.folder / re.search(r"logs: (\S+)", log)[1]


def test_photos_need_no_code_and_a_network_or_a_callback_one_file(trained, clone):
    log, folder = trained

    assert set(FILES) == {
        "configs/experiment/flowers.yaml",
        "configs/network/small_cnn.yaml",
        "configs/callbacks/epoch_time.yaml",
        "src/networks/small_cnn.py",
        "src/datasets/arrays.py",
        "src/callbacks/epoch_time.py",
    }
    edited = clone.git("status", "--porcelain", "-uall").split()
    assert edited[::2] == ["??"] * len(FILES)
    assert set(edited[1::2]) == set(FILES)
    assert len(epochs(log)) == 4
    assert final_accuracy(log) > 0.6
    # a multiple of 1/18: a tenth of each class is the test
    assert (final_accuracy(log) * COUNT * 3 / 10 + 0.01) % 1 < 0.02
    events = EventAccumulator(str(folder)).Reload()
    assert [0 < event.value < 600 for event in events.Scalars("epoch_seconds")] == [True] * 4


def test_other_photos_are_recognised_with_the_settings_of_the_run(trained, train, clone):
    _, folder = trained
    new = clone.folder / "data/new"
    new.mkdir()
    for kind in COLOURS:
        shutil.copy(clone.folder / f"data/flowers/{kind}/0.png", new / f"{kind}.png")
    words = command("stage=predict")

    log = train(*[word.replace("logs/flowers/version_0", str(folder)) for word in words[1:]])

    written = clone.folder / re.search(r"logs: (\S+)", log)[1] / "predict.csv"
    rows = list(csv.DictReader(written.read_text().splitlines()))
    assert [row["file"] for row in rows] == [f"data/new/{kind}.png" for kind in COLOURS]
    assert {row["prediction"] for row in rows} <= set(COLOURS)
    for row in rows:
        assert sum(float(row[kind]) for kind in COLOURS) == pytest.approx(1, abs=1e-4)


def test_the_checkpoint_is_loaded_as_the_page_says(trained, clone):
    checkpoint = trained[1] / "checkpoints/best.ckpt"
    # imports nothing: the blocks of the page must do it
    program = f"checkpoint = {str(checkpoint)!r}\n{LOAD}"
    program += "images = model.example_input_array.new_ones(5, 3, 48, 48)\n"
    program += f"print(model(images).shape)\nprint(model.hparams.network)\n{LOOK}"

    done = clone.run(sys.executable, "-c", program)

    assert done.returncode == 0, done.stderr
    shape, network, guesses = done.stdout.splitlines()
    assert shape == "torch.Size([5, 3])"
    assert ast.literal_eval(network)["width"] == 32
    names = ast.literal_eval(guesses)
    assert len(names) == 5
    assert set(names) <= set(COLOURS)


def test_numbers_are_predicted_instead_of_classes(train):
    log = train(*command("model=regressor"), "trainer.max_epochs=2", "plots=false")

    assert len(re.findall(r"epoch  \d/2 .* mae ", log)) == 2
    assert re.search(r"test loss [\d.]+ mae [\d.]+", log)


def test_a_network_of_torchvision_is_fitted_to_the_classes(train):
    log = train(
        *command("network=torchvision"), "trainer.max_epochs=1", "trainer.limit_train_batches=1"
    )

    assert re.search(r"Linear .*\[1, 3\]", log)


def test_several_callbacks_and_a_callback_of_lightning_can_be_named(clone):
    [words] = re.findall(r"`'(callbacks=\[.*?\])'`", PAGE)

    done = clone.run(sys.executable, "run.py", "experiment=flowers", words, "--print-config")

    assert done.returncode == 0, done.stderr
    assert "_target_: src.callbacks.epoch_time.EpochTime" in done.stdout
    assert "_target_: lightning.pytorch.callbacks.EarlyStopping" in done.stdout


def test_arguments_of_a_network_are_checked_without_a_declaration(clone):
    right, wrong = (command(f"SmallCNN network.{name}=64") for name in ("width", "widths"))

    accepted = clone.run(sys.executable, "run.py", *right, "--print-config")
    refused = clone.run(sys.executable, "run.py", *wrong, "--dry-run")

    assert "  width: 64" in accepted.stdout, accepted.stderr
    assert refused.returncode == 2
    assert refused.stderr == block("command line: network.widths")


def test_classes_of_other_packages_must_be_trusted(clone, tmp_path):
    """A package of the same name stands for timm."""
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm/__init__.py").write_text(
        "def create_model(model_name, **kwargs):\n    pass\n"
    )
    words, env = command("timm"), {**clone.env, "PYTHONPATH": str(tmp_path)}

    trusted = clone.run(sys.executable, "run.py", *words, "--dry-run", env=env)
    refused = clone.run(sys.executable, "run.py", *words[:-1], "--dry-run", env=env)

    assert words[-1] == "trusted=[timm]"
    assert trusted.returncode == 0, trusted.stderr
    assert refused.returncode == 2
    assert "add it to trusted in configs/config.yaml" in refused.stderr


def test_data_of_another_kind_are_one_file(train, clone):
    folder, rng = clone.folder / "data/arrays", np.random.default_rng(0)
    words = [re.search(r"run\.py (data=[\w.]+)", FILES["src/datasets/arrays.py"])[1]]
    words += ["network=fully_connected", "slurm.devices=2", "trainer.max_epochs=2", "plots=false"]
    missing = clone.run(sys.executable, "run.py", HERE, *words)
    folder.mkdir()
    for part, count in (("train", 200), ("test", 40)):
        labels = rng.integers(0, 2, count)
        images = rng.integers(0, 100, (count, 16, 16)) + 100 * labels[:, None, None]
        np.save(folder / f"{part}_images.npy", images.astype(np.uint8))
        np.save(folder / f"{part}_labels.npy", labels)

    log = train(*words)

    assert missing.returncode == 1
    assert "data/arrays/train_images.npy is missing: copy the arrays there\n" in missing.stderr
    assert "Traceback" not in missing.stderr
    assert final_accuracy(log) > 0.8


def test_an_option_of_sbatch_can_be_in_an_experiment(clone):
    file = clone.folder / "configs/experiment/constrained.yaml"
    file.write_text(f"# @package _global_\n{block('slurm:')}")

    script = clone.run(sys.executable, "run.py", "experiment=constrained", "--dry-run")
    file.unlink()

    assert "#SBATCH --constraint=a100\n" in script.stdout, script.stderr
