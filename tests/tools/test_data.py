"""The sample data and the check of the data sets: make test-fast."""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import MNIST

ROOT = Path(__file__).resolve().parents[2]

# the sample must have the same bytes on every machine: these sums are from x86-64
SAMPLE_SUMS = {
    "MNIST/raw/train-images-idx3-ubyte": "a9f09262c41c8d46",
    "MNIST/raw/t10k-labels-idx1-ubyte": "dc8a6ccffacca074",
    "cifar-10-batches-py/data_batch_1": "195ea7da84cccb8f",
    "cifar-10-batches-py/test_batch": "47b4e5490b39085f",
    "cifar-10-batches-py/batches.meta": "3ad9c8668b8bd820",
}


def python(script, *args, **kwargs):
    command = [sys.executable, str(ROOT / script), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **kwargs)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    done = python("data/make_sample.py", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def sample(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "data"))


def test_the_sample_has_the_same_bytes_on_every_machine(made):
    sums = {}
    for name in ("MNIST", "cifar-10-batches-py"):
        for line in (made / name / "SHA256SUMS").read_text().splitlines()[1:]:
            digest, path = line.split("  ")
            sums[f"{name}/{path}"] = digest[:16]

    found = {name: sums[name] for name in SAMPLE_SUMS}

    assert found == SAMPLE_SUMS


def test_sha256sum_itself_reads_the_sums(made):
    for name in ("MNIST", "cifar-10-batches-py"):
        done = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=made / name)

        assert done.returncode == 0


def test_torchvision_reads_the_mnist_sample_unchanged(made):
    train_set, test_set = (MNIST(made, train=train) for train in (True, False))

    assert (len(train_set), len(test_set)) == (1500, 297)
    assert train_set.data.shape[1:] == (28, 28)
    assert sorted(set(train_set.targets.tolist())) == list(range(10))
    assert 0 < train_set.data.float().mean() / 255 < 0.3  # white strokes on black


def test_the_digits_come_from_scikit_learn(made):
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.RandomState(1).permutation(1797)
    first = MNIST(made, train=True).data[0].numpy()
    original = digits.images[order[0]] * 255 / 16

    # the mean of each 2.5 x 2.5 block is near the pixel that it was scaled from
    blocks = first[4:24, 4:24].repeat(2, 0).repeat(2, 1).reshape(8, 5, 8, 5).mean((1, 3))

    assert np.corrcoef(blocks.ravel(), original.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("encoding", ["latin1", "bytes"])
def test_the_cifar10_sample_is_pickled_like_the_original(made, encoding):
    folder = made / "cifar-10-batches-py"
    key = str if encoding == "latin1" else str.encode
    with (folder / "data_batch_2").open("rb") as file:
        batch = pickle.load(file, encoding=encoding)
    with (folder / "batches.meta").open("rb") as file:
        meta = pickle.load(file, encoding=encoding)

    assert list(batch) == [key(k) for k in ("batch_label", "labels", "data", "filenames")]
    assert batch[key("data")].shape == (300, 3072)
    assert batch[key("data")].dtype == np.uint8
    assert np.bincount(batch[key("labels")]).tolist() == [30] * 10
    assert len(meta[key("label_names")]) == 10


def test_real_data_are_never_overwritten_by_the_sample(sample):
    (sample / "MNIST/SHA256SUMS").write_text("0" * 64 + "  raw/train-images-idx3-ubyte\n")
    before = (sample / "MNIST/raw/train-images-idx3-ubyte").stat().st_mtime_ns

    done = python("data/make_sample.py", sample)

    assert done.returncode == 0
    assert "kept" in done.stdout and "it is not the sample" in done.stdout
    assert (sample / "MNIST/raw/train-images-idx3-ubyte").stat().st_mtime_ns == before


def test_a_damaged_sample_is_rebuilt(sample):
    (sample / "MNIST/raw/train-images-idx3-ubyte").write_bytes(b"x")

    done = python("data/make_sample.py", sample)

    assert done.returncode == 0
    assert python("data/check.py", sample / "MNIST").returncode == 0
    assert sorted(path.name for path in sample.iterdir()) == ["MNIST", "cifar-10-batches-py"]


def test_an_unwritable_sample_folder_is_reported(tmp_path):
    (tmp_path / "file").write_text("")

    done = python("data/make_sample.py", tmp_path / "file")

    assert done.returncode == 1
    assert done.stderr.startswith(f"cannot write the sample to {tmp_path / 'file'}: ")
    assert "Traceback" not in done.stderr


def test_the_check_says_which_data_it_found(sample):
    done = python("data/check.py", sample / "MNIST")

    assert done.returncode == 0
    assert done.stdout.startswith("data: MNIST, sample: 1797 handwritten digits")
    assert str(sample / "MNIST") in done.stdout


def test_the_check_calls_data_without_a_comment_the_full_set(sample):
    sums = sample / "MNIST/SHA256SUMS"
    sums.write_text("".join(sums.read_text().splitlines(keepends=True)[1:]))

    done = python("data/check.py", sample / "MNIST")

    assert done.stdout.startswith("data: MNIST, full set, 4 files")


FILE = "raw/train-labels-idx1-ubyte"


def flip_a_byte(folder):
    content = bytearray((folder / FILE).read_bytes())
    content[100] ^= 1
    (folder / FILE).write_bytes(content)


DAMAGE = {
    "a flipped byte": (flip_a_byte, f"{FILE} is damaged"),
    "truncated": (lambda f: os.truncate(f / FILE, 700), f"{FILE} is damaged"),
    "empty": (lambda f: os.truncate(f / FILE, 0), f"{FILE} is empty"),
    "missing": (lambda f: (f / FILE).unlink(), f"{FILE} is missing"),
    "a folder": (lambda f: ((f / FILE).unlink(), (f / FILE).mkdir()), f"{FILE} cannot be read"),
    "an extra file": (lambda f: (f / "raw/extra").write_text("x"), "raw/extra does not belong"),
    "no sums": (lambda f: (f / "SHA256SUMS").unlink(), "SHA256SUMS is missing"),
    "empty sums": (lambda f: (f / "SHA256SUMS").write_text(""), "SHA256SUMS is empty"),
    "no sums but text": (lambda f: (f / "SHA256SUMS").write_text("hello"), "not a SHA-256 sum"),
    "binary sums": (lambda f: (f / "SHA256SUMS").write_bytes(b"\xff\xfe"), "it is not text"),
    "a file left out of the sums": (
        lambda f: (f / "SHA256SUMS").write_text("0" * 64 + "  raw/t10k-images-idx3-ubyte\n"),
        "raw/t10k-labels-idx1-ubyte is not listed in SHA256SUMS",
    ),
    "no folder": (lambda f: shutil.rmtree(f), "MNIST is missing"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_check_names_the_bad_file_and_the_command_that_repairs_it(sample, damage):
    plant, expected = DAMAGE[damage]
    plant(sample / "MNIST")

    done = python("data/check.py", sample / "MNIST")

    assert done.returncode == 1
    assert expected in done.stderr
    assert f"bash data/get_mnist.sh {sample}" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_check_names_an_unreadable_file(sample):
    if os.getuid() != 0:
        pytest.skip("only root can switch to a user who may not read the file")
    (sample / "MNIST" / FILE).chmod(0)
    for folder in [sample, *sample.parents]:
        folder.chmod(folder.stat().st_mode | 0o055)
    script = (ROOT / "data/check.py").read_text()

    done = subprocess.run(
        [
            "setpriv",
            "--reuid=65534",
            "--clear-groups",
            "/usr/bin/env",
            "python3",
            "-",
            sample / "MNIST",
        ],
        input=script,
        capture_output=True,
        text=True,
        cwd="/",
    )

    assert done.returncode == 1
    assert f"{FILE} cannot be read (Permission denied)" in done.stderr


def test_the_check_ignores_hidden_files(sample):
    (sample / "MNIST/raw/.nfs0001").write_text("left by the file system")

    assert python("data/check.py", sample / "MNIST").returncode == 0


def test_git_ignores_all_data_and_none_of_the_scripts(tmp_path):
    def git(*words, folder=ROOT):
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    shutil.copy(ROOT / ".gitignore", tmp_path)
    for name in ("flowers/train/rose/1.png", "NAME/SHA256SUMS", "photos.zip", "MNIST/raw/a.gz"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_text("data")
    (tmp_path / "data/link").symlink_to(tmp_path / "data/flowers")
    for name in ("get_new.sh", "new.py", "new.sha256"):
        (tmp_path / "data" / name).write_text("a script")
    git("init", "--quiet", folder=tmp_path)
    new = git("ls-files", "--others", "--exclude-standard", folder=tmp_path)

    assert new == [".gitignore", "data/get_new.sh", "data/new.py", "data/new.sha256"]
    assert git("ls-files", "--cached", "--ignored", "--exclude-standard") == []
