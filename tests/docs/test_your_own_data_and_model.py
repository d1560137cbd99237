"""The files that docs/your-own-data-and-model.md adds, in a clone: make test."""

import ast
import re
import shutil
import sys

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from clone import ROOT, epochs, final_accuracy

PAGE = (ROOT / "docs/your-own-data-and-model.md").read_text()
FILES = dict(re.findall(r"^`(src/\S+\.py)`:\n\n```python\n(.*?)^```", PAGE, re.M | re.S))
BLOCKS = re.findall(r"^```(?:python|output)\n(.*?)^```", PAGE, re.M | re.S)
COLOURS = {"daisy": (200, 200, 200), "rose": (190, 60, 60), "violet": (100, 60, 190)}


def block(beginning):
    """Return the block of the page that begins with these words."""
    [found] = [text for text in BLOCKS if text.lstrip().startswith(beginning)]
    return found


LOAD, PREDICT = block("from src.models"), block("mean, std = ")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Make one folder per class, with noisy photos of its colour in different sizes."""
    rng, data = np.random.default_rng(0), tmp_path_factory.mktemp("data")
    for part, count in (("train", 60), ("test", 21)):
        for kind, colour in COLOURS.items():
            folder = data / "flowers" / part / kind
            folder.mkdir(parents=True)
            for number in range(count):
                size = (24 + number % 3, 30, 3)
                pixels = np.clip(rng.normal(colour, 50, size), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return data


@pytest.fixture(scope="module")
def clone(module_clone):
    module_clone.git("switch", "--quiet", "8-distributed-training")
    for name, text in FILES.items():
        (module_clone.folder / name).write_text(text)
    return module_clone


@pytest.mark.parametrize("shape", [[], ["--devices=2", "--num_workers=2"]], ids=["one", "two"])
def test_two_new_files_are_all_it_takes(clone, photos, shape):
    arguments = ["--dataset=flowers", "--arch=small_cnn", "--max_epochs=4", "--batch_size=16"]

    done = clone.run(
        *(sys.executable, "run.py", "--local", f"--data_dir={photos}"),
        *("--learning_rate=0.01", *arguments, *shape),
    )

    assert done.returncode == 0, done.stderr
    assert len(epochs(done.stdout)) == 4
    assert final_accuracy(done.stdout) > 0.6
    # a multiple of 1/63: every test image was counted once
    assert (final_accuracy(done.stdout) * 63 + 0.01) % 1 < 0.02
    logs = re.search(r"logs: (\S+)", done.stdout)[1]
    assert list((clone.folder / logs).glob("events.*"))
    edited = clone.git("status", "--porcelain", "-uall").split()[1::2]
    assert (
        sorted(edited) == sorted(FILES) == ["src/datasets/flowers.py", "src/networks/small_cnn.py"]
    )


def test_the_checkpoint_is_loaded_as_the_page_says(clone, photos):
    [checkpoint, *_] = clone.folder.glob("logs/flowers/*/checkpoints/*.ckpt")
    program = f"checkpoint = {str(checkpoint)!r}\n{LOAD}"
    program += "import torch\nprint(model(torch.zeros(5, 3, 24, 24)).shape)\n"
    program += f"print(model.hparams.network_args)\nimages = torch.rand(5, 3, 24, 24)\n{PREDICT}"

    done = clone.run(sys.executable, "-c", program)

    assert done.returncode == 0, done.stderr
    shape, network_args, guesses = done.stdout.splitlines()
    assert (shape, network_args) == ("torch.Size([5, 3])", "{'width': 32}")
    names = ast.literal_eval(guesses)
    assert len(names) == 5
    assert set(names) <= set(COLOURS)


def test_the_help_shows_the_network_arguments_as_on_the_page(clone):
    shown = clone.run(sys.executable, "run.py", "--arch", "small_cnn", "--help")
    other = clone.run(sys.executable, "run.py", "--arch=resnet18", "--width=8", "--dry-run")

    assert block("only for --arch=small_cnn:") in shown.stdout
    assert other.returncode == 2
    assert "unknown argument --width" in other.stderr


def test_a_custom_argument_is_declared_once(clone):
    file = clone.folder / "src/launch/arguments.py"
    place = 'def add_training_arguments(parser):\n    parser.begin_group("training")\n'
    declared = block('parser.add_argument(\n        "--weight_decay"')
    text = file.read_text()
    assert text.count(place) == 1

    file.write_text(text.replace(place, place + declared))
    script = clone.run(sys.executable, "run.py", "--dry-run", "--weight_decay=0.5")
    shown = clone.run(sys.executable, "run.py", "--help")
    clone.git("checkout", "--quiet", ".")

    assert "    --weight_decay=0.5 \\\n" in script.stdout, script.stderr
    assert "weight decay of the optimizer, an L2 penalty (default: 0.0)" in shown.stdout


def test_a_custom_job_argument_becomes_an_sbatch_option(clone):
    declared = block('parser.add_argument(\n        "--constraint"')
    turned = block("if hparams.constraint:")
    arguments = clone.folder / "src/launch/arguments.py"
    options = clone.folder / "src/launch/sbatch_options.py"
    edits = {
        arguments: ('    parser.begin_group("job", launch_only=True)\n', declared),
        options: ("    options = list(hparams.sbatch_options)\n", turned),
    }
    for file, (place, added) in edits.items():
        text = file.read_text()
        assert text.count(place) == 1
        file.write_text(text.replace(place, place + added))
    imported = "from src.launch.argument_types import word\n"
    text = arguments.read_text().replace("import argparse\n", "import argparse\n" + imported, 1)
    arguments.write_text(text)

    script = clone.run(sys.executable, "run.py", "--dry-run", "--constraint=a100&nvlink")
    refused = clone.run(sys.executable, "run.py", "--dry-run", "--constraint=a100; rm")
    clone.git("checkout", "--quiet", ".")

    assert "#SBATCH --constraint=a100&nvlink\n" in script.stdout, script.stderr
    assert script.stdout.count("a100") == 1
    assert "'a100; rm' is not a feature of nodes, such as a100" in refused.stderr


def test_a_custom_callback_needs_a_file_and_a_list_entry(clone):
    file, main = clone.folder / "src/callbacks/epoch_time.py", clone.folder / "src/main.py"
    file.write_text(block('"""Log how long each epoch takes'))
    text = main.read_text().replace("CleanStart(),\n", "CleanStart(), EpochTime(),\n")
    main.write_text(f"from src.callbacks.epoch_time import EpochTime\n{text}")
    short = ["--arch=fully_connected", "--max_epochs=2", "--experiment_name=timed"]

    done = clone.run(sys.executable, "run.py", "--local", *short)
    clone.git("checkout", "--quiet", ".")
    file.unlink()

    assert done.returncode == 0, done.stderr
    events = EventAccumulator(str(clone.folder / "logs/timed/version_0")).Reload()
    assert [0 < event.value < 600 for event in events.Scalars("epoch_seconds")] == [True, True]


def without_first_class(flowers):
    shutil.rmtree(flowers / "test/daisy")


def with_one_class(flowers):
    for name in ("rose", "violet"):
        shutil.rmtree(flowers / f"train/{name}")


def with_a_cut_photo(flowers):
    photo = flowers / "train/rose/1.png"
    photo.write_bytes(photo.read_bytes()[:300])


def with_a_text_file(flowers):
    (flowers / "test/rose/1.png").write_text("not a photo")


def with_16_bits(flowers):
    pixels = np.full((24, 24), 40000, np.uint16)
    Image.fromarray(pixels).save(flowers / "train/violet/2.png")


def with_an_empty_class(flowers):
    (flowers / "train/aster").mkdir()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            without_first_class,
            block("src/datasets/flowers.py, test set: ").replace("data/flowers", "FLOWERS"),
        ),
        (
            with_one_class,
            "a classifier needs at least two classes, not 1: to recognise one kind of image, add a"
            " second class of other images",
        ),
        (with_a_cut_photo, "FLOWERS/train/rose/1.png is not an image, or damaged: "),
        (with_a_text_file, "FLOWERS/test/rose/1.png is not an image, or damaged: "),
        (
            with_16_bits,
            "FLOWERS/train/violet/2.png has I;16 pixels: convert it to 8 bits per channel",
        ),
        (with_an_empty_class, "the folder of a class contains no images (FileNotFoundError: "),
    ],
)
def test_wrong_photos_are_refused_in_one_sentence(clone, photos, tmp_path, change, sentence):
    shutil.copytree(photos, tmp_path, dirs_exist_ok=True)
    change(tmp_path / "flowers")

    done = clone.run(
        *(sys.executable, "run.py", "--local", f"--data_dir={tmp_path}", "--num_workers=2"),
        *("--dataset=flowers", "--arch=small_cnn", "--max_epochs=1", "--batch_size=27"),
    )

    assert done.returncode == 1
    assert done.stderr.startswith(sentence.replace("FLOWERS", f"{tmp_path}/flowers"))
    assert done.stderr.count("\n") == 1
    assert "epoch  1/" not in done.stdout


def test_a_missing_test_set_is_reported_before_the_training(clone, photos):
    file = clone.folder / "src/datasets/flowers.py"
    file.write_text(FILES["src/datasets/flowers.py"].replace("self.test_set =", "test_set ="))

    done = clone.run(
        *(sys.executable, "run.py", "--local", f"--data_dir={photos}"),
        *("--dataset=flowers", "--arch=small_cnn", "--max_epochs=1", "--devices=2"),
    )
    file.write_text(FILES["src/datasets/flowers.py"])

    assert done.returncode == 1
    assert "src/datasets/flowers.py: setup creates no test_set\n" in done.stderr
    assert "Traceback" not in done.stderr
    assert "epoch  1/" not in done.stdout


@pytest.mark.parametrize("missing", ["train", "test"])
def test_missing_photos_are_reported_in_one_sentence(clone, tmp_path, missing):
    for kind in ("rose", "violet") if missing == "test" else ():
        (tmp_path / "flowers/train" / kind).mkdir(parents=True)

    done = clone.run(
        *(sys.executable, "run.py", "--local", f"--data_dir={tmp_path}"),
        *("--dataset=flowers", "--arch=small_cnn"),
    )

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"{tmp_path}/flowers/{missing} is missing: unpack the photos there"
    )
