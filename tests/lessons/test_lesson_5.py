"""Lesson 5 as a learner runs it, with its metrics compared to scikit-learn: make test."""

import csv
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import metrics as sklearn_metrics
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.util.tensor_util import make_ndarray

from clone import EPOCH_LINE, epochs
from log_lines import summary_lines, unexpected_lines

BRANCH = "5-improved-logging"
NUM_EPOCHS = 3
NUM_VAL, NUM_TEST = 150, 297
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO "
KINDS = ("scalars", "tensors", "images", "histograms")  # of which all events are read
THRESHOLDS = np.arange(127) / 126  # what TensorBoard writes for a PR curve
# trains as run.py does, and records the outputs of the network and the calls of the callback
DRIVER = f"""
import sys
import warnings
import torch
import run
from src import main as lesson
from src.callbacks.tensorboard import TensorBoardPlots

warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # kept_forward causes it
steps, probabilities, weights, forwards, modes = [], [], [], [], []
sanity_labels = []
step, forward = lesson.Classifier.step, lesson.Classifier.forward

def kept_step(self, batch, stage):
    result = step(self, batch, stage)
    if self.trainer.sanity_checking:
        sanity_labels.append(batch[1])
    else:
        steps.append((stage, self.current_epoch, result["logits"].detach().clone(), batch[1]))
    return result

def kept_forward(self, images):
    forwards.append((self.training, torch.is_grad_enabled(), tuple(map(int, images.shape))))
    return forward(self, images)

def keep_modes(hook):
    original = getattr(TensorBoardPlots, hook)
    def kept(self, trainer, pl_module):
        before, first = [layer.training for layer in pl_module.modules()], len(forwards)
        original(self, trainer, pl_module)
        after = [layer.training for layer in pl_module.modules()]
        modes.append((hook, before, after, forwards[first:]))
    setattr(TensorBoardPlots, hook, kept)

original_epoch_end = TensorBoardPlots.on_train_epoch_end
def kept_epoch_end(self, trainer, pl_module):
    weights.append({{k: v.detach().clone() for k, v in pl_module.named_parameters()}})
    original_epoch_end(self, trainer, pl_module)

original_curves = TensorBoardPlots.draw_pr_curves
def kept_curves(self, writer, trainer, rows, labels):
    probabilities.append(rows)
    original_curves(self, writer, trainer, rows, labels)

lesson.Classifier.step, lesson.Classifier.forward = kept_step, kept_forward
TensorBoardPlots.on_train_epoch_end = kept_epoch_end
TensorBoardPlots.draw_pr_curves = kept_curves
keep_modes("on_train_start")
keep_modes("on_train_end")
sys.argv = ["run.py", "--local", "--max_epochs={NUM_EPOCHS}"]
run.main()
names = ("steps", "probabilities", "weights", "modes", "sanity_labels")
torch.save({{name: globals()[name] for name in names}}, "kept.pt")
"""

pytestmark = pytest.mark.slow


@dataclass
class Run:
    """What a run of the driver printed, wrote and recorded."""

    stdout: str
    stderr: str
    folder: Path
    kept: dict
    events: EventAccumulator

    def outputs(self, stage, epoch=None):
        """Return scores and labels of all images of an epoch, without the sanity check."""
        pairs = [
            row[2:] for row in self.kept["steps"] if row[0] == stage and epoch in (None, row[1])
        ]
        scores, labels = (torch.cat(part) for part in zip(*pairs, strict=True))
        return scores, labels.numpy()

    def scalar(self, tag):
        return [event.value for event in self.events.Scalars(tag)]


@pytest.fixture(scope="module")
def lesson(module_clone):
    module_clone.git("switch", "--quiet", BRANCH)
    return module_clone


@pytest.fixture(scope="module")
def run(lesson):
    done = lesson.run(sys.executable, "-c", DRIVER)
    assert done.returncode == 0, done.stderr
    folder = lesson.folder / "logs/mnist/version_0"
    kept = torch.load(lesson.folder / "kept.pt", weights_only=True)
    events = EventAccumulator(str(folder), size_guidance=dict.fromkeys(KINDS, 0))
    return Run(done.stdout, done.stderr, folder, kept, events.Reload())


# --- the numbers


@pytest.mark.parametrize("stage", ["train", "val", "test"])
def test_scikit_learn_counts_the_same_metrics_for_every_epoch(run, stage):
    epochs_of_stage = [None] if stage == "test" else range(NUM_EPOCHS)
    macro = {"average": "macro", "zero_division": 0}
    by_class = () if stage == "train" else ("precision", "recall", "f1")
    expected = {name: [] for name in ("acc", *by_class)}

    for epoch in epochs_of_stage:
        scores, labels = run.outputs(stage, epoch)
        guesses = scores.argmax(dim=1).numpy()
        expected["acc"].append(sklearn_metrics.accuracy_score(labels, guesses))
        for name in by_class:
            score = getattr(sklearn_metrics, f"{name}_score")
            expected[name].append(score(labels, guesses, **macro))

    for name, values in expected.items():
        assert run.scalar(f"{stage}_{name}") == pytest.approx(values, abs=1e-6), name


@pytest.mark.parametrize(("stage", "count"), [("train", 1350), ("val", NUM_VAL)])
def test_the_logged_loss_is_the_mean_over_all_images(run, stage, count):
    for epoch, loss in enumerate(run.scalar(f"{stage}_loss")):
        scores, labels = run.outputs(stage, epoch)

        expected = torch.nn.functional.cross_entropy(scores, torch.from_numpy(labels))

        assert len(labels) == count
        assert loss == pytest.approx(expected.item(), abs=1e-5)


def test_the_confusion_matrix_counts_every_validation_image_once(run):
    events = run.events.Tensors("confusion_matrix/text_summary")

    assert [event.step for event in events] == [1, 2, 3]
    for epoch, event in enumerate(events):
        text = make_ndarray(event.tensor_proto).item().decode()
        matrix = np.array(re.findall(r"\d+", text), dtype=int).reshape(10, 10)
        scores, labels = run.outputs("val", epoch)

        assert matrix.sum() == NUM_VAL
        expected = sklearn_metrics.confusion_matrix(labels, scores.argmax(dim=1))
        assert matrix.tolist() == expected.tolist()


@pytest.mark.parametrize("digit", range(10))
def test_the_pr_curve_of_a_class_matches_its_probabilities(run, digit):
    [tag] = [tag for tag in run.events.Tags()["tensors"] if tag.startswith(f"pr_curve/{digit}")]
    events = run.events.Tensors(tag)

    assert [event.step for event in events] == [1, 2, 3]
    for epoch, event in enumerate(events):
        scores, labels = run.outputs("val", epoch)
        positive = scores.softmax(dim=1)[:, digit, None].numpy() >= THRESHOLDS  # (images, 127)
        truth = np.repeat(labels[:, None] == digit, len(THRESHOLDS), axis=1)
        counts = sklearn_metrics.multilabel_confusion_matrix(truth, positive)
        kind = {"average": None, "zero_division": 0}
        precision = sklearn_metrics.precision_score(truth, positive, **kind)
        recall = sklearn_metrics.recall_score(truth, positive, **kind)

        tp, fp, tn, fn, logged_precision, logged_recall = make_ndarray(event.tensor_proto)

        assert tn.tolist() == counts[:, 0, 0].tolist()
        assert fp.tolist() == counts[:, 0, 1].tolist()
        assert fn.tolist() == counts[:, 1, 0].tolist()
        assert tp.tolist() == counts[:, 1, 1].tolist()
        assert logged_precision == pytest.approx(precision, abs=1e-6)
        assert logged_recall == pytest.approx(recall, abs=1e-6)


def test_pr_curves_are_drawn_from_probabilities(run):
    for rows in run.kept["probabilities"]:
        assert rows.shape == (NUM_VAL, 10)
        assert rows.min() >= 0
        assert rows.sum(dim=1).numpy() == pytest.approx(np.ones(NUM_VAL), abs=1e-5)


def test_no_metric_counts_the_images_of_the_sanity_check(run):
    sanity = torch.cat(run.kept["sanity_labels"])
    totals = [
        make_ndarray(event.tensor_proto)[:4, 0].sum()
        for event in run.events.Tensors("pr_curve/0 - zero")
    ]

    assert len(sanity) == 128
    assert totals == [NUM_VAL] * NUM_EPOCHS
    assert len(run.scalar("val_loss")) == NUM_EPOCHS


def test_the_losses_equal_those_of_lesson_4(run, lesson):
    lesson.git("switch", "--quiet", "4-auto-slurm-script-generation")

    done = lesson.run(sys.executable, "run.py", "--local", f"--max_epochs={NUM_EPOCHS}")
    lesson.git("switch", "--quiet", BRANCH)

    assert done.returncode == 0, done.stderr
    assert len(epochs(run.stdout)) == NUM_EPOCHS
    for row, expected in zip(epochs(run.stdout), epochs(done.stdout), strict=True):
        assert row == pytest.approx(expected, abs=5e-4)


# --- what the log says


def test_every_line_of_the_program_is_on_stdout_with_time_and_level(run):
    for words in (r"data: MNIST, sample", r"network: ", r"test loss [\d.]+ acc [\d.]+$", r"logs: "):
        assert re.search(f"^{TIME}{words}", run.stdout, re.MULTILINE), words
    assert len(re.findall(f"^{TIME}{EPOCH_LINE.pattern}$", run.stdout, re.MULTILINE)) == NUM_EPOCHS
    assert not EPOCH_LINE.search(run.stderr)
    assert "test loss" not in run.stderr


def test_the_epoch_lines_match_the_event_files(run):
    tags = ("train_loss", "train_acc", "val_loss", "val_acc")
    logged = zip(*map(run.scalar, tags), strict=True)

    for row, shown in zip(logged, epochs(run.stdout), strict=True):
        assert row == pytest.approx(shown, abs=5.1e-5)


def test_the_summary_shows_every_layer_with_its_parameters_and_its_output_size(run):
    first, *layers = summary_lines(run.stdout)

    assert first.endswith("network: 136,074 parameters")
    assert [line.split(maxsplit=2) for line in layers] == [
        ["1", "Linear", "100 K  [1, 128]"],
        ["3", "Linear", "33.0 K  [1, 256]"],
        ["5", "Linear", "2.6 K  [1, 10]"],
    ]


def test_the_log_has_no_line_that_a_reader_cannot_use(run):
    assert unexpected_lines(run.stdout) == []
    assert run.stderr == ""


@pytest.mark.parametrize(("rank", "lines"), [("0", 1), ("1", 0)])
def test_only_rank_0_logs(lesson, rank, lines):
    program = """
from argparse import Namespace
from src import main as lesson
lesson.check_data = lambda folder: "data: MNIST"
lesson.L.seed_everything = lambda seed: exit()
lesson.main(Namespace(data_dir="data", seed=1))
"""
    env = {**lesson.env, "RANK": rank}

    done = lesson.run(sys.executable, "-c", program, env=env)

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("INFO data: MNIST\n") == done.stdout.count("\n") == lines


def test_the_profile_of_the_run_is_in_its_folder(run):
    fit = (run.folder / "fit-profile.txt").read_text()
    test = (run.folder / "test-profile.txt").read_text()

    assert re.search(rf"run_training_epoch\s+\|\s+[\d.e-]+\s+\|\s+{NUM_EPOCHS} ", fit)
    assert "TensorBoardPlots.on_train_epoch_end" in fit
    assert "test_step" in test


# --- what TensorBoard gets


@pytest.mark.parametrize("layer", ["network.1", "network.3", "network.5"])
@pytest.mark.parametrize("kind", ["weight", "bias"])
def test_histograms_show_the_weights_after_every_epoch(run, layer, kind):
    events = run.events.Histograms(f"weights/{layer}.{kind}")

    assert [event.step for event in events] == [1, 2, 3]
    for event, weights in zip(events, run.kept["weights"], strict=True):
        values = weights[f"{layer}.{kind}"]
        histogram = event.histogram_value
        assert histogram.num == values.numel()
        assert histogram.min == pytest.approx(values.min().item())
        assert histogram.max == pytest.approx(values.max().item())


@pytest.mark.parametrize(
    ("tag", "steps"), [("examples", [0]), ("confusion_matrix", [3]), ("predictions", [3])]
)
def test_pictures_are_drawn_at_the_right_steps(run, tag, steps):
    events = run.events.Images(f"images/{tag}")

    assert [event.step for event in events] == steps
    assert [(event.width, event.height) for event in events] == [(600, 600)] * len(steps)


@pytest.mark.parametrize(
    ("hook", "counts"), [("on_train_start", {1}), ("on_train_end", {16, 64, NUM_VAL % 64})]
)
def test_the_network_runs_in_eval_mode_and_its_mode_is_restored(run, hook, counts):
    [(before, after, forwards)] = [row[1:] for row in run.kept["modes"] if row[0] == hook]

    assert all(before)
    assert after == before
    expected = {(False, False, (count, 1, 28, 28)) for count in counts}
    assert set(forwards) == expected  # neither in training mode nor with gradients


def test_the_graph_shows_the_size_of_the_data(run):
    [node] = [node for node in run.events.Graph().node if node.name == "input/images"]

    [shape] = node.attr["_output_shapes"].list.shape

    assert [size.size for size in shape.dim] == [1, 1, 28, 28]


def test_the_hparams_table_has_the_final_accuracies(run):
    info = HParamsPluginData.FromString(
        run.events.PluginTagToContent("hparams")["_hparams_/experiment"]
    ).experiment
    start = HParamsPluginData.FromString(
        run.events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    ).session_start_info

    assert [metric.name.tag for metric in info.metric_infos] == ["hp/val_acc", "hp/test_acc"]
    assert start.hparams["learning_rate"].number_value == 1e-3
    assert start.hparams["optimizer"].string_value == "Adam"
    assert run.scalar("hp/val_acc") == [max(run.scalar("val_acc"))]
    assert run.scalar("hp/test_acc") == run.scalar("test_acc")
    assert "hp_metric" not in run.events.Tags()["scalars"]


def test_the_projector_has_matching_points_classes_and_images(run):
    config = (run.folder / "projector_config.pbtxt").read_text()
    paths = dict(re.findall(r'(\w+_path): "([^"]+)"', config))
    points = np.loadtxt(run.folder / paths["tensor_path"], delimiter="\t")
    names = (run.folder / paths["metadata_path"]).read_text().splitlines()
    width, height = Image.open(run.folder / paths["image_path"]).size
    scores, labels = run.outputs("val", NUM_EPOCHS - 1)
    last = {
        kind: run.kept["weights"][-1][f"network.5.{kind}"].numpy() for kind in ("weight", "bias")
    }

    assert points.shape == (NUM_VAL, 256)
    assert [int(name[0]) for name in names] == labels.tolist()
    assert (width // 28) * (height // 28) >= NUM_VAL
    # the last layer maps the points to the outputs of the network
    expected = pytest.approx(scores.numpy(), abs=1e-3)
    assert points @ last["weight"].T + last["bias"] == expected


def test_the_projector_finds_its_files_when_the_logs_are_copied(run):
    config = (run.folder / "projector_config.pbtxt").read_text()

    for path in re.findall(r'_path: "([^"]+)"', config):
        assert not Path(path).is_absolute()
        assert (run.folder / path).is_file()


# --- the predictions for the test images


def test_predictions_csv_has_the_predictions_behind_the_test_metrics(run):
    assert b"\r" not in (run.folder / "predictions.csv").read_bytes()  # for grep, cut and awk
    with (run.folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    scores, labels = run.outputs("test")
    probabilities, guesses = scores.softmax(dim=1).max(dim=1)

    assert [row["index"] for row in rows] == [str(index) for index in range(NUM_TEST)]
    assert [int(row["label"][0]) for row in rows] == labels.tolist()
    assert [int(row["prediction"][0]) for row in rows] == guesses.tolist()
    expected = pytest.approx(probabilities.tolist(), abs=1e-5)
    assert [float(row["probability"]) for row in rows] == expected


def test_confusion_matrix_csv_counts_every_test_image(run):
    with (run.folder / "confusion_matrix.csv").open(newline="") as file:
        [head, *rows] = csv.reader(file)
    scores, labels = run.outputs("test")

    expected = sklearn_metrics.confusion_matrix(labels, scores.argmax(dim=1))

    assert [row[0] for row in rows] == head[1:]
    assert [list(map(int, row[1:])) for row in rows] == expected.tolist()


def test_a_training_without_plots_writes_the_same_numbers_and_no_pictures(run, lesson):
    done = lesson.run(
        *(sys.executable, "run.py", "--local", f"--max_epochs={NUM_EPOCHS}", "--no-plots"),
        "--experiment_name=plain",
    )

    assert done.returncode == 0, done.stderr
    assert epochs(done.stdout) == epochs(run.stdout)
    folder = lesson.folder / "logs/plain/version_0"
    events = EventAccumulator(str(folder)).Reload()
    assert events.Tags()["images"] == events.Tags()["histograms"] == []
    assert (folder / "predictions.csv").read_text() == (run.folder / "predictions.csv").read_text()


# --- optimizer and loss by name


def test_optimizer_and_loss_are_chosen_by_name(lesson):
    program = """
import sys, torch, run
from src.main import Classifier
batch = torch.rand(4, 1, 28, 28), torch.tensor([3, 1, 4, 1])
for optimizer in ("Adam", "AdamW", "SGD"):
    for criterion in ("cross_entropy", "multi_margin_loss"):
        names = [f"--optimizer={optimizer}", f"--criterion={criterion}"]
        sys.argv = ["run.py", "--learning_rate=0.25", *names]
        _, hparams = run.parse_args()
        chosen = {name: getattr(hparams, name) for name in ("optimizer", "criterion")}
        model = Classifier(learning_rate=hparams.learning_rate, **chosen)
        model.log = model.log_dict = lambda *args, **kwargs: None
        used = model.configure_optimizers()
        loss = getattr(torch.nn.functional, criterion)(model(batch[0]), batch[1])
        print(type(used) is getattr(torch.optim, optimizer), used.param_groups[0]["lr"])
        print(bool(model.step(batch, "val")["loss"] == loss))
"""

    done = lesson.run(sys.executable, "-c", program)

    assert done.stdout == "True 0.25\nTrue\n" * 6, done.stderr


@pytest.mark.parametrize(
    ("argument", "known"),
    [("--optimizer=adam", "'Adam', 'AdamW', 'SGD'"), ("--criterion=mse", "'cross_entropy'")],
)
def test_an_unknown_name_is_refused_in_one_sentence(lesson, argument, known):
    done = lesson.run(sys.executable, "run.py", "--local", argument)

    assert done.returncode == 2
    assert done.stderr.startswith(f"run.py: argument {argument.split('=')[0]}: invalid choice: ")
    assert known in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_chosen_names_reach_the_job(lesson):
    done = lesson.run(
        sys.executable, "run.py", "--dry-run", "--optimizer=SGD", "--criterion=multi_margin_loss"
    )

    assert "    --optimizer=SGD \\\n" in done.stdout
    assert "    --criterion=multi_margin_loss \\\n" in done.stdout
