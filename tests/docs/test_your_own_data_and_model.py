"""The files that docs/your-own-data-and-model.md tells to add, in a clone: make test."""

import re
import sys

import numpy as np
import pytest
from PIL import Image

from clone import ROOT, epochs, final_accuracy

PAGE = (ROOT / "docs/your-own-data-and-model.md").read_text()
FILES = dict(re.findall(r"^`(src/\S+\.py)`:\n\n```python\n(.*?)^```", PAGE, re.M | re.S))
LOAD = re.findall(r"^```python\n(from src.models.*?)^```", PAGE, re.M | re.S)[0]
COLOURS = {"daisy": (200, 200, 200), "rose": (190, 60, 60), "violet": (100, 60, 190)}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder for each kind, with noisy photos of its colour in different sizes."""
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
    assert sorted(edited) == sorted(FILES) == ["src/datasets/flowers.py", "src/models/small_cnn.py"]


def test_the_checkpoint_is_loaded_as_the_page_says(clone, photos):
    [checkpoint, *_] = clone.folder.glob("logs/flowers/*/checkpoints/*.ckpt")
    program = f"checkpoint = {str(checkpoint)!r}\n{LOAD}"
    program += "import torch\nprint(model(torch.zeros(5, 3, 24, 24)).shape)\n"

    done = clone.run(sys.executable, "-c", program)

    assert done.stdout == "torch.Size([5, 3])\n", done.stderr


@pytest.mark.parametrize("missing", ["train", "test"])
def test_photos_that_are_missing_are_one_sentence(clone, tmp_path, missing):
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
