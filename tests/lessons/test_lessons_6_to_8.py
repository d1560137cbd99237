"""Data sets, networks and switches of lessons 6 and later, without Slurm: make test."""

import csv
import hashlib
import json
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import lightning
import pytest
import torch
import torchvision
from torch.utils.data import BatchSampler, DataLoader, Dataset

from clone import ARGUMENTS_LESSON, LAST_LESSON, ROOT, TEST_LINE, Hostile, epochs, final_accuracy
from log_lines import unexpected_lines
from programs import LESSON_9
from src.datasets import image_data_module
from src.datasets.cifar10 import CIFAR10DataModule, read_batch
from src.datasets.mnist import MNISTDataModule
from src.launch import argument_types
from src.models.lightning_classifier import Classifier
from src.networks.fully_connected import FullyConnected
from src.networks.resnet import load_weights, resnet
from src.utils import data_shares, distributed
from src.utils.data_shares import SeededBatches
from src.utils.errors import UserError

SIX, SEVEN = "6-lightning-data-module", "7-changing-architectures"
PYTHON = sys.executable


@pytest.fixture(scope="module")
def lesson(module_clone, warm_python):
    def train(branch, *args, code=0):
        module_clone.git("switch", "--quiet", branch)
        done = warm_python.run("run.py", "--local", *args, cwd=module_clone.folder, timeout=300)
        assert done.returncode == code, done.stderr
        if code == 0:
            assert unexpected_lines(done.stdout + done.stderr) == []
        return done

    train.folder, train.git = module_clone.folder, module_clone.git
    return train


def logs_of(log):
    """Return the folder that a training has logged, relative to the clone."""
    return re.search(r"logs: (\S+)", log)[1]


# --- images in memory


def data_set(num_images, **augment):
    """Make a set of identical images: all pixels differ from each other and from 0."""
    image = torch.arange(1, 3 * 8 * 8 + 1, dtype=torch.uint8).view(1, 3, 8, 8)
    labels = torch.arange(num_images)
    return image_data_module.ImagesInMemory(
        image.expand(num_images, -1, -1, -1), labels, (0, 0, 0), (1, 1, 1), **augment
    )


def crops_of(image, shift):
    padded = torch.nn.functional.pad(image, (shift,) * 4)
    size = image.shape[-1]
    for top in range(2 * shift + 1):
        for left in range(2 * shift + 1):
            crop = padded[:, top : top + size, left : left + size]
            yield crop
            yield crop.flip(-1)


def test_every_image_of_a_batch_gets_its_own_crop_and_flip():
    torch.manual_seed(0)
    original, _ = data_set(1)[0]
    possible = [crop.flatten().tolist() for crop in crops_of(original, 2)]

    batch, _ = data_set(500, shift=2, mirror=True).__getitems__(list(range(500)))

    drawn = [possible.index(image.flatten().tolist()) for image in batch]
    assert set(drawn) == set(range(50))  # 5 x 5 places, mirrored or not
    assert max(map(drawn.count, drawn)) < 50


def test_images_without_augmentation_are_unchanged_and_in_the_requested_order():
    batch, labels = data_set(5).__getitems__([4, 0, 3])

    assert labels.tolist() == [4, 0, 3]
    assert (batch * 255).round().int().flatten(1).tolist() == [list(range(1, 193))] * 3


def test_only_training_images_are_augmented(sample_data):
    data = CIFAR10DataModule(sample_data)
    data.setup("fit")
    data.setup("test")

    assert (data.train_set.shift, data.train_set.mirror) == (4, True)
    assert (data.val_set.shift, data.val_set.mirror) == (0, False)
    assert (data.test_set.shift, data.test_set.mirror) == (0, False)


def test_the_split_is_seeded_and_shares_no_image(sample_data):
    parts = [CIFAR10DataModule(sample_data, seed=seed).split(1500) for seed in (1, 1, 2)]

    assert parts[0] == parts[1] != parts[2]
    assert [len(part) for part in parts[0]] == [1350, 150]
    assert sorted(parts[0][0] + parts[0][1]) == list(range(1500))


def test_a_split_does_not_depend_on_earlier_calls(sample_data):
    used, fresh = CIFAR10DataModule(sample_data), CIFAR10DataModule(sample_data)

    used.split(300)
    used.setup("fit")
    repeated = [used.split(1500), used.split(300), used.split(1500)]

    assert repeated == [fresh.split(1500), fresh.split(300), fresh.split(1500)]
    assert repeated[0] == repeated[2]


# calls what its arguments name, in this order, and prints what every image was used for
CALLS = """
import hashlib, json, random, sys
import torch
from src.datasets.cifar10 import CIFAR10DataModule

data = CIFAR10DataModule(sys.argv[1], val_split=0.2, seed=7)
torch.manual_seed(len(sys.argv))
for call in sys.argv[2:]:
    if call in ("fit", "test"):
        data.setup(call)
    elif call == "split":
        data.split(1500)
    else:
        for batch in getattr(data, f"{call}_dataloader")():
            pass
used = [[labels.tolist() for _, labels in data.train_dataloader()]]
for loader in (data.val_dataloader(), data.test_dataloader()):
    used += [[hashlib.sha256(images.numpy()).hexdigest() for images, _ in loader]]
print(json.dumps(used))
"""


def test_a_split_is_the_same_after_any_calls_and_in_any_process(sample_data):
    orders = [
        ["test", "fit"],
        ["fit", "val", "train", "train", "split", "test", "test", "fit", "val"],
    ]
    command = [sys.executable, "-c", CALLS, sample_data]

    done = [
        subprocess.run([*command, *order], cwd=LESSON_9, capture_output=True, text=True)
        for order in orders
    ]

    assert [process.returncode for process in done] == [0] * len(orders), done
    assert len({process.stdout for process in done}) == 1
    train, val, _ = json.loads(done[0].stdout)
    assert (sum(map(len, train)), len(val)) == (18 * 64, 5)  # whole batches of 1200 images


def test_pixels_equal_those_of_the_torchvision_pipeline(sample_data):
    data = MNISTDataModule(sample_data)
    data.setup("test")
    transforms = torchvision.transforms
    pipeline = [transforms.ToTensor(), transforms.Normalize(data.mean, data.std)]
    expected = torchvision.datasets.MNIST(
        sample_data, train=False, transform=transforms.Compose(pipeline)
    )

    for index in (0, 7, 296):
        image, label = data.test_set[index]
        assert torch.equal(image, expected[index][0])
        assert label == expected[index][1]


# --- batch files


def test_the_restricted_unpickler_reads_what_pickle_reads(sample_data):
    path = sample_data / "cifar-10-batches-py/data_batch_2"
    with path.open("rb") as file:
        expected = pickle.load(file, encoding="latin1")

    found, labels = read_batch(path)

    assert (found == expected["data"]).all()
    assert labels.tolist() == list(expected["labels"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (pickle.dumps({"data": Hostile(), "labels": []}), "refers to builtins.exec"),
        (pickle.dumps({"labels": [1]}), "'data'"),
        (b"", "Ran out of input"),
        (b"not a pickle", "batch"),
        (pickle.dumps({"data": torch.zeros(2, 5).numpy(), "labels": [1, 2]}), "float32 (2, 5)"),
    ],
    ids=["hostile", "incomplete", "empty", "text", "other images"],
)
def test_a_file_that_is_not_a_batch_is_refused_and_runs_nothing(
    tmp_path, monkeypatch, content, reason
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data_batch_1").write_bytes(content)

    with pytest.raises(UserError, match="is not a batch of CIFAR-10") as error:
        read_batch(tmp_path / "data_batch_1")

    assert reason in str(error.value)
    assert "data/get_cifar10.sh" in str(error.value)
    assert not (tmp_path / "PWNED").exists()


# --- networks


@pytest.mark.parametrize("dims", [(3, 32, 32), (1, 28, 28)])
@pytest.mark.parametrize("arch", ["resnet18", "resnet34", "resnet50"])
def test_a_resnet_has_one_score_per_class(arch, dims):
    assert resnet(arch, dims, 7).eval()(torch.zeros(2, *dims)).shape == (2, 7)


def test_the_fully_connected_network_takes_any_size():
    assert FullyConnected((2, 5, 9), 4)(torch.zeros(3, 2, 5, 9)).shape == (3, 4)


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """A cache with weights; as in torchvision, the file name contains their sum."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub/checkpoints"
    folder.mkdir(parents=True)
    weights = torchvision.models.resnet18().state_dict()
    torch.save(weights, folder / "new")
    digest = hashlib.sha256((folder / "new").read_bytes()).hexdigest()
    path = (folder / "new").rename(folder / f"resnet18-{digest[:8]}.pth")
    default = type("Weights", (), {"url": f"https://example.org/{path.name}"})
    weights_of = type("Known", (), {"DEFAULT": default})
    monkeypatch.setattr(torchvision.models, "get_model_weights", lambda arch: weights_of)
    return path, weights


@pytest.mark.parametrize("channels", [3, 1])
def test_cached_weights_are_loaded_except_for_the_head(cached, channels):
    _, weights = cached
    network = resnet("resnet18", (channels, 32, 32), 10)
    head = network.fc.weight.clone()

    load_weights(network, "resnet18")

    assert torch.equal(network.layer4[1].conv2.weight, weights["layer4.1.conv2.weight"])
    assert torch.equal(network.bn1.running_var, weights["bn1.running_var"])
    assert torch.equal(network.fc.weight, head)
    first = weights["conv1.weight"]
    expected = first if channels == 3 else first.sum(dim=1, keepdim=True)
    assert torch.equal(network.conv1.weight, expected)


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_missing_or_damaged_weights_name_the_script(cached, damage):
    path, _ = cached
    path.write_bytes(b"x") if damage == "damaged" else path.unlink()

    with pytest.raises(UserError, match=f"{path} is {damage}; run .bash src/utils/cache_models.sh"):
        load_weights(resnet("resnet18", (3, 32, 32), 10), "resnet18")


@pytest.mark.parametrize(
    "content", [pickle.dumps(Hostile()), b"", b"no weights"], ids=["hostile", "empty", "text"]
)
def test_a_file_that_is_not_weights_is_refused_and_runs_nothing(cached, monkeypatch, content):
    path, _ = cached
    monkeypatch.chdir(path.parent)
    digest = hashlib.sha256(content).hexdigest()
    path = path.rename(path.with_name(f"resnet18-{digest[:8]}.pth"))
    path.write_bytes(content)
    default = torchvision.models.get_model_weights("resnet18").DEFAULT
    default.url = f"https://example.org/{path.name}"

    with pytest.raises(UserError, match=f"{path} is not a weights file; run .bash src/utils/"):
        load_weights(resnet("resnet18", (3, 32, 32), 10), "resnet18")

    assert not Path("PWNED").exists()


@pytest.mark.slow
def test_a_job_without_the_cache_names_the_script(lesson, tmp_path, monkeypatch):
    lesson.folder.joinpath("site").mkdir(exist_ok=True)
    done = lesson(SEVEN, "--weights=DEFAULT", code=1)

    assert "resnet18-f37072fd.pth is missing; run " in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_network_needs_no_linear_layer(lesson):
    file = lesson.folder / "src/networks/pooled.py"
    text = (
        "from torch import nn\n\n\nclass Pooled(nn.Sequential):\n"
        "    def __init__(self, dims, num_classes):\n"
        "        layers = [nn.Conv2d(dims[0], num_classes, 3), nn.AdaptiveAvgPool2d(1)]\n"
        "        super().__init__(*layers, nn.Flatten())\n"
    )
    lesson.git("switch", "--quiet", ARGUMENTS_LESSON)
    file.write_text(text)

    arguments = ["--arch=pooled", "--max_epochs=1", "--limit_train_batches=2"]
    log = lesson(ARGUMENTS_LESSON, *arguments).stdout
    file.unlink()

    assert final_accuracy(log) > 0


# --- switches


def test_no_switch_is_on_by_default(module_clone):
    module_clone.git("switch", "--quiet", ARGUMENTS_LESSON)
    program = (
        "import run; parser, hparams = run.parse_args();"
        " print(parser.settings(hparams)['debugging'])"
    )

    done = module_clone.run(PYTHON, "-c", program)
    some = module_clone.run(PYTHON, "-c", program, "--limit_val_batches=1", "--fast_dev_run=2")
    whole = module_clone.run(PYTHON, "-c", program, "--limit_val_batches=1.0", "--fast_dev_run=0")

    assert done.stdout == "{}\n", done.stderr
    assert some.stdout == "{'limit_val_batches': 1, 'fast_dev_run': 2}\n"
    assert whole.stdout == "{}\n"


@pytest.mark.parametrize(("text", "value"), [("10", 10), ("1", 1), ("1.0", None), ("0.25", 0.25)])
def test_batches_are_a_number_or_a_fraction(text, value):
    found = argument_types.batches(1)(text)

    assert (found, type(found)) == (value, type(value))


@pytest.mark.slow
def test_switches_are_reported_and_limit_the_training(lesson):
    done = lesson(
        SEVEN,
        *("--arch=fully_connected", "--max_epochs=1", "--limit_train_batches=3"),
        "--limit_val_batches=2",
    )

    assert "WARNING not a full training: --limit_train_batches=3 --limit_val" in done.stdout
    folder = lesson.folder / logs_of(done.stdout)
    [checkpoint] = folder.glob("checkpoints/*.ckpt")
    assert checkpoint.name.endswith("step=3.ckpt")


@pytest.mark.slow
def test_fast_dev_run_writes_no_logs(lesson):
    shutil.rmtree(lesson.folder / "logs", ignore_errors=True)

    done = lesson(SEVEN, "--arch=fully_connected", "--fast_dev_run=1")

    assert "not a full training: --fast_dev_run=1\n" in done.stdout
    assert "test loss " in done.stdout
    assert done.stdout.endswith("INFO logs: none\n")
    assert list(lesson.folder.glob("logs/*/*")) == []


@pytest.mark.slow
def test_overfitting_a_few_batches_brings_the_loss_close_to_0(lesson):
    arguments = ["--arch=fully_connected", "--dataset=mnist", "--overfit_batches=2"]

    rows = epochs(lesson(SEVEN, *arguments, "--max_epochs=30", "--no-plots").stdout)

    assert rows[0][0] > 1
    assert rows[-1][0] < 0.1


@pytest.mark.long
@pytest.mark.slow
def test_overfitting_as_on_the_page_brings_the_loss_close_to_0(lesson):
    page = (ROOT / "docs/lessons/7.md").read_text()
    [arguments] = re.findall(r"`(--overfit_batches [^`]+)`", page)

    rows = epochs(lesson(SEVEN, *arguments.split(), "--no-plots").stdout)

    losses = [row[0] for row in rows]
    assert losses[9] > 0.3  # ten epochs, the default, are too few
    assert min(losses[-5:]) < 0.1


# --- from lesson to lesson


@pytest.mark.slow
def test_lesson_6_has_the_numbers_of_lesson_5_on_mnist(lesson):
    before = lesson("5-improved-logging", "--max_epochs=2").stdout
    after = lesson(SIX, "--dataset=mnist", "--max_epochs=2").stdout

    assert len(epochs(after)) == 2
    for row, expected in zip(epochs(after), epochs(before), strict=True):
        assert row == pytest.approx(expected, abs=5e-4)
    assert final_accuracy(after) == pytest.approx(final_accuracy(before), abs=5e-4)


# --- shares of several processes


class Process:
    def __init__(self, world_size, rank, batch_size=4):
        self.trainer = type("Trainer", (), {"world_size": world_size, "global_rank": rank})
        self.seed, self.batch_size, self.generator = 1, batch_size, None
        self.position = {"epoch": 0, "batches": 0}

    def training_share(self, dataset):
        return data_shares.training_share(self, SeededBatches(dataset, self.seed))


@pytest.mark.parametrize("num_processes", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("length", [7, 12, 29, 300])
@pytest.mark.parametrize("batch_size", [1, 2, 4, 14])
def test_every_image_is_evaluated_once_in_equally_many_steps(num_processes, length, batch_size):
    seen, steps = [], set()

    for rank in range(num_processes):
        process = Process(num_processes, rank, batch_size)
        settings = data_shares.evaluation_share(process, range(length))
        batches = list(DataLoader(range(length), **settings))
        seen += torch.cat(batches).tolist()
        steps.add(len(batches))

    assert sorted(seen) == list(range(length))
    assert len(steps) == 1


def test_too_few_images_for_the_processes_are_refused():
    with pytest.raises(UserError, match="3 images are too few for 4 processes"):
        data_shares.evaluation_share(Process(4, 0), range(3))


@pytest.mark.parametrize("num_processes", [2, 4])
def test_an_optimizer_step_has_the_same_images_for_any_number_of_processes(num_processes):
    def steps(world_size, rank):
        process = Process(world_size, rank, 12 // world_size)
        settings = process.training_share(range(96))
        return [set(batch.tolist()) for batch in DataLoader(range(96), **settings)]

    parts = [steps(num_processes, rank) for rank in range(num_processes)]

    assert [set.union(*step) for step in zip(*parts, strict=True)] == steps(1, 0)


@pytest.mark.parametrize("num_processes", [1, 2, 4, 8, 16, 32])
@pytest.mark.parametrize("length", [64, 1350, 45_000, 45_001])
def test_an_incomplete_last_batch_is_left_out_of_the_training(num_processes, length):
    size = 64 // num_processes
    settings = Process(num_processes, 0, size).training_share(range(length))

    batches = list(BatchSampler(settings["sampler"], size, settings["drop_last"]))

    assert {len(batch) for batch in batches} == {size}
    assert len(batches) == length // 64


def test_a_training_set_smaller_than_a_batch_is_used_nevertheless():
    settings = Process(2, 0, 32).training_share(range(20))

    batches = list(BatchSampler(settings["sampler"], 32, settings["drop_last"]))

    assert [len(batch) for batch in batches] == [10]


class Chance(Dataset):
    """Return the random numbers that each worker draws."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return torch.rand(())


def test_the_processes_draw_their_own_crops_which_do_not_depend_on_the_workers():
    def drawn(rank, num_workers=1):
        dataset = SeededBatches(Chance(), seed=1)
        settings = data_shares.training_share(Process(2, rank), dataset)
        return torch.cat(list(DataLoader(dataset, num_workers=num_workers, **settings))).tolist()

    assert drawn(0) == drawn(0) == drawn(0, num_workers=0)
    assert set(drawn(0)).isdisjoint(drawn(1))


@pytest.fixture(scope="module")
def two_processes(lesson):
    """The log of a training with two processes, and the folder that it names."""
    arguments = ["--dataset=mnist", "--arch=fully_connected", "--devices=2", "--max_epochs=1"]
    log = lesson(ARGUMENTS_LESSON, *arguments).stdout
    return log, lesson.folder / logs_of(log)


@pytest.fixture
def mnist_test_images(sample_data):
    """All test images of MNIST and their labels."""
    data = MNISTDataModule(sample_data, batch_size=100)
    data.setup("test")
    return data.test_set.__getitems__(range(len(data.test_set)))


@pytest.mark.slow
def test_the_test_loss_of_unequal_shares_is_the_mean_over_all_images(
    two_processes, mnist_test_images
):
    log, folder = two_processes
    [(loss, _)] = TEST_LINE.findall(log)
    [checkpoint] = folder.glob("checkpoints/best.ckpt")
    model = Classifier.load_from_checkpoint(checkpoint, weights_only=True).cpu().eval()
    images, labels = mnist_test_images

    with torch.no_grad():
        expected = torch.nn.functional.cross_entropy(model(images), labels).item()

    assert len(labels) % 2 == 1
    assert float(loss) == pytest.approx(expected, abs=2e-4)


@pytest.mark.slow
def test_two_processes_write_every_test_image_once(two_processes, mnist_test_images):
    log, folder = two_processes
    with (folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (folder / "confusion_matrix.csv").open(newline="") as file:
        [_, *matrix] = csv.reader(file)
    _, labels = mnist_test_images
    names = MNISTDataModule.classes
    right = sum(row["label"] == row["prediction"] for row in rows)
    assert [int(row["index"]) for row in rows] == list(range(len(labels)))
    assert [row["label"] for row in rows] == [names[label] for label in labels]
    assert final_accuracy(log) == pytest.approx(right / len(rows), abs=1e-4)
    assert sum(int(count) for _, *counts in matrix for count in counts) == len(labels)


# --- what is refused


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (
            ["--batch_size=256", "--devices=3"],
            "by 3 processes (--num_nodes 1 x --devices 3); try 255 or 258",
        ),
        (["--batch_size=2", "--num_nodes=2", "--devices=2"], " x --devices 2); try 4"),
        (["--limit_train_batches=1.5"], "'1.5' is not a number from 0.001 to 1"),
        (["--limit_val_batches=0"], "'0' is not a whole number that is at least 1"),
        (["--limit_train_batches=0.0"], "'0.0' is not a number from 0.001 to 1"),
        ([f"--batch_size={10**20}"], "is not a whole number from 1 to 1000000000"),
        (["--timeout_min=200000000"], "is not a whole number from 1 to 10080"),
        (["--arch=resnet19"], "invalid choice: 'resnet19'"),
        (["--dataset=imagenet"], "invalid choice: 'imagenet'"),
        (["--weights=DEFAULT", "--arch=fully_connected"], "needs a ResNet, not --arch fully"),
    ],
)
def test_wrong_arguments_end_in_one_sentence(module_clone, args, sentence):
    module_clone.git("switch", "--quiet", ARGUMENTS_LESSON)

    done = module_clone.run(PYTHON, "run.py", *args)

    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (("gpu", "auto"), "--accelerator gpu: PyTorch sees no GPU here"),
        (("cpu", "16-mixed"), "--precision 16-mixed needs a GPU"),
    ],
)
def test_missing_hardware_is_reported_in_one_sentence(monkeypatch, settings, sentence):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)

    with pytest.raises(UserError, match=sentence):
        distributed.hardware(hparams(*settings))


def test_batch_norm_over_all_processes_needs_gpus():
    with pytest.raises(UserError, match="--sync_batchnorm needs GPUs: on a CPU leave it out"):
        distributed.hardware(hparams("cpu", "auto", sync_batchnorm=True))


@pytest.mark.parametrize(("batches", "total", "share"), [(1, 64, 32), (4, 256, 128)])
def test_the_log_counts_the_images_of_all_batches_of_an_optimizer_step(
    caplog, batches, total, share
):
    caplog.set_level("INFO")
    trainer = lightning.Trainer(accumulate_grad_batches=batches, logger=False)

    distributed.log_layout(
        hparams("cpu", "32-true", devices=2), "cpu", "32-true", trainer.accumulate_grad_batches
    )

    assert f"images per optimizer step: {total}, per process: {share};" in caplog.text


@pytest.mark.slow
def test_accumulated_batches_are_in_the_log_of_a_training(lesson):
    lesson.git("switch", "--quiet", ARGUMENTS_LESSON)
    main = lesson.folder / "src/main.py"
    main.write_text(
        main.read_text().replace(
            "    return L.Trainer(\n", "    return L.Trainer(\n        accumulate_grad_batches=4,\n"
        )
    )

    # in mixed precision, which must not add lines to the log
    arguments = ["--arch=fully_connected", "--precision=bf16-mixed", "--max_epochs=1"]
    log = lesson(ARGUMENTS_LESSON, *arguments).stdout
    lesson.git("checkout", "--quiet", ".")

    assert "bf16-mixed; images per optimizer step: 256, per process: 256;" in log
    steps = json.loads((lesson.folder / logs_of(log) / "DONE.json").read_text())["steps"]
    assert steps == 6  # 21 batches of 64 images, 4 batches per step


def hparams(accelerator, precision, devices=1, sync_batchnorm=False):
    names = {"num_nodes": 1, "devices": devices, "batch_size": 64, "learning_rate": 0.1}
    names |= {"accelerator": accelerator, "precision": precision, "sync_batchnorm": sync_batchnorm}
    return type("Hparams", (), names)


def test_gpus_that_a_process_does_not_see_are_counted(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)

    with pytest.raises(UserError, match="--devices 2, but this process sees 1 GPUs"):
        distributed.hardware(hparams("auto", "auto", devices=2))


@pytest.mark.parametrize(
    ("num_gpus", "expected"), [(0, ("cpu", "32-true")), (2, ("gpu", "16-mixed"))]
)
def test_mixed_precision_is_for_gpus(monkeypatch, num_gpus, expected):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)

    assert distributed.hardware(hparams("auto", "auto")) == expected


@pytest.mark.parametrize(("has_it", "warnings"), [(False, 1), (True, 0)])
def test_bfloat16_on_a_cpu_without_support_is_explained(monkeypatch, caplog, has_it, warnings):
    monkeypatch.setattr(distributed, "cpu_has_bfloat16", lambda: has_it)

    distributed.log_layout(hparams("cpu", "bf16-mixed"), "cpu", "bf16-mixed", 1)

    assert caplog.text.count("no instructions for bfloat16") == warnings


def test_the_program_of_the_root_is_the_last_lesson(module_clone):
    program = ["src", "run.py", "configs"]
    listing = module_clone.git("ls-tree", "-r", "--name-only", LAST_LESSON, *program)
    for name in listing.split():
        assert module_clone.git("show", f"{LAST_LESSON}:{name}") == (ROOT / name).read_text()
