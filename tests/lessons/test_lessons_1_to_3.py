"""Lessons 1 to 3 as a learner runs them, without Slurm: make test."""

import sys

import pytest
import torch

from clone import epochs, final_accuracy
from log_lines import unexpected_lines

LESSONS = ["1-simple-model-training", "2-lightning-module", "3-improved-data-loading"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def logs(module_clone):
    """The output of each lesson's run.sh, run one after the other in one clone."""
    return {branch: module_clone.train(branch) for branch in LESSONS}


@pytest.mark.parametrize("branch", LESSONS)
def test_a_lesson_learns_the_digits_of_the_sample(logs, branch):
    rows = epochs(logs[branch])

    assert len(rows) == 10
    assert rows[-1][3] > 0.9  # validation accuracy
    assert final_accuracy(logs[branch]) > 0.9
    assert rows[-1][0] < rows[0][0] / 4  # the training loss falls


@pytest.mark.parametrize("branch", LESSONS)
def test_the_log_says_which_data_were_used(logs, branch):
    assert logs[branch].startswith("data: MNIST, sample: 1797 handwritten digits")


@pytest.mark.parametrize("branch", LESSONS)
def test_the_log_has_no_line_that_a_reader_cannot_use(logs, branch):
    assert unexpected_lines(logs[branch]) == []


@pytest.mark.parametrize("branch", LESSONS[1:])
def test_later_lessons_have_the_losses_of_lesson_1(logs, branch):
    expected = epochs(logs[LESSONS[0]])

    for row, first in zip(epochs(logs[branch]), expected, strict=True):
        assert row == pytest.approx(first, abs=5e-4)


def test_a_checkpoint_and_event_files_are_where_the_log_says(logs, module_clone):
    for branch in LESSONS[1:]:
        [folder] = [line[6:] for line in logs[branch].splitlines() if line.startswith("logs: ")]
        [checkpoint] = module_clone.folder.glob(f"{folder.split('hpc-starter/')[1]}/checkpoints/*")

        state = torch.load(checkpoint, weights_only=True)

        assert state["state_dict"]["network.1.weight"].shape == (128, 784)
        assert list(checkpoint.parents[1].glob("events.out.tfevents.*"))


def test_the_event_files_contain_the_numbers_in_the_log(logs, module_clone):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(module_clone.folder / "lightning_logs/version_0"))
    events.Reload()
    tags = ["train_loss", "train_acc", "val_loss", "val_acc"]
    columns = [[event.value for event in events.Scalars(tag)] for tag in tags]

    for row, shown in zip(zip(*columns, strict=True), epochs(logs[LESSONS[1]]), strict=True):
        assert row == pytest.approx(shown, abs=5e-5)


def test_the_printed_losses_are_means_over_all_images(module_clone):
    # one epoch with learning rate 0 must print the loss that a loop over single images gives
    module_clone.git("switch", "--quiet", LESSONS[1])
    program = """
import sys, torch, lightning as L
from src import main as lesson
import torch.nn.functional as F
hparams = lesson.HPARAMS
hparams.learning_rate, hparams.max_epochs = 0.0, 1
lesson.main(hparams)
L.seed_everything(hparams.seed)
train, val, _ = lesson.make_loaders(hparams)
model = lesson.Classifier(learning_rate=hparams.learning_rate)
with torch.no_grad():
    for loader in (train, val):
        pairs = [loader.dataset[i] for i in range(len(loader.dataset))]
        logits = model(torch.stack([image for image, _ in pairs]))
        labels = torch.tensor([label for _, label in pairs])
        accuracy = (logits.argmax(1) == labels).float().mean()
        print(f"expected {F.cross_entropy(logits, labels):.4f} {accuracy:.4f}")
"""

    done = module_clone.run(sys.executable, "-c", program)

    assert done.returncode == 0, done.stderr
    [row] = epochs(done.stdout)
    expected = [
        float(x)
        for line in done.stdout.splitlines()
        if line.startswith("expected")
        for x in line.split()[1:]
    ]
    assert list(row) == pytest.approx(expected, abs=1e-4)


def test_the_split_keeps_validation_images_out_of_training(module_clone):
    module_clone.git("switch", "--quiet", LESSONS[0])
    program = """
from src import main as lesson
train, val, test = lesson.make_loaders(lesson.HPARAMS)
a, b = set(train.dataset.indices), set(val.dataset.indices)
print(len(a), len(b), len(a & b), a | b == set(range(1500)), len(test.dataset))
first = [labels.tolist() for _, labels in train]
second = [labels.tolist() for _, labels in train]
print(first != second, sorted(sum(first, [])) == sorted(sum(second, [])))
"""

    done = module_clone.run(sys.executable, "-c", program)

    assert done.stdout.splitlines() == ["1350 150 0 True 297", "True True"], done.stderr


def test_run_sh_names_a_missing_environment(module_clone):
    module_clone.git("switch", "--quiet", LESSONS[0])
    env = {**module_clone.env, "VENV": "nowhere"}

    done = module_clone.run("bash", "run.sh", env=env)

    assert done.returncode == 1
    assert done.stderr.startswith("No Python environment at nowhere (seen from ")
    assert "docs/preparation.md" in done.stderr


def test_run_sh_works_from_another_folder(module_clone):
    module_clone.git("switch", "--quiet", LESSONS[0])
    env = {**module_clone.env, "VENV": "nowhere"}

    done = module_clone.run("bash", str(module_clone.folder / "run.sh"), env=env, cwd="/")

    assert f"(seen from {module_clone.folder})" in done.stderr


def test_the_program_is_preferred_to_another_package_of_the_same_name(module_clone, tmp_path):
    module_clone.git("switch", "--quiet", LESSONS[0])
    for name in ("src", "data"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    program = "import src.main, data.check; print(src.main.__file__, data.check.__file__)"
    env = {**module_clone.env, "PYTHONPATH": str(tmp_path)}

    done = module_clone.run(sys.executable, "-c", program, env=env)

    files = [module_clone.folder / "src/main.py", module_clone.folder / "data/check.py"]
    assert done.stdout.split() == list(map(str, files)), done.stderr


def test_run_sh_sources_the_settings_of_the_site(module_clone):
    module_clone.git("switch", "--quiet", LESSONS[0])
    site = module_clone.folder / "site.sh"
    site.write_text('export VENV="/set/by/site"\n')

    done = module_clone.run("bash", "run.sh")
    site.unlink()

    assert "No Python environment at /set/by/site" in done.stderr


@pytest.mark.parametrize("branch", LESSONS)
def test_damaged_data_end_a_lesson_with_one_sentence(module_clone, branch):
    module_clone.git("switch", "--quiet", branch)
    labels = module_clone.folder / "data/MNIST/raw/train-labels-idx1-ubyte"
    content = labels.read_bytes()
    labels.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    done = module_clone.run("bash", "run.sh")
    labels.write_bytes(content)

    assert done.returncode == 1
    assert "train-labels-idx1-ubyte is damaged" in done.stderr
    assert "bash data/get_mnist.sh" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
