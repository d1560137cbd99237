"""The checks of lesson 10, on runs whose settings come from files: see check.py."""

import csv
import re

from checks.runs import Wrong, as_number, has_ended, number_of, run_of, runs_by_run_py

# files that come with the lesson
EXPERIMENTS = ("cifar10_resnet18", "mnist_fully_connected")
MINE = "python run.py experiment=mine"
# of a run, but not of an experiment
OF_A_RUN = ("seed", "slurm.", "data.data_dir", "data.num_workers", "trainer.accelerator")


def trains(run):
    """Return whether a run trains; the settings of one that has just begun are not known yet."""
    return "fit" in run.settings.get("stage", "fit")


def trainings(experiment):
    """Return the runs that train in the experiment of this name, and those of other lessons."""
    return [
        run
        for run in runs_by_run_py()
        if run.lesson != 10
        or (trains(run) and run.settings.get("experiment_name", experiment) == experiment)
    ]


def has_its_epochs(run):
    """All epochs of config.yaml ran."""
    expected = run.settings.get("trainer.max_epochs")
    found = len(run.epochs) if run.text else (run.done or {}).get("epochs")
    if expected is None:
        raise Wrong(f"no trainer.max_epochs in {run.name}/config.yaml", "a number", MINE)
    if str(found) != expected:
        found = f"{number_of(found or 0, 'epoch')} in {run.name}"
        raise Wrong(found, f"{expected}, as in its config.yaml", f"run it again: {MINE}")


def has_own_experiment(run):
    """The settings come from an experiment file of your own."""
    file = run.folder / "command.txt"
    command = file.read_text(errors="replace") if file.is_file() else ""
    names = re.findall(r"\bexperiment=([\w./-]+)", command)
    if not [name for name in names if name not in EXPERIMENTS]:
        found = f"experiment={names[0]}" if names else "no experiment=..."
        expected = "a file of your own, such as experiment=mine"
        raise Wrong(f"{found} in {run.name}/command.txt", expected, MINE)


def has_schedule(run):
    """The learning rate follows a schedule, and weights decay."""
    schedule = run.settings.get("schedule._target_", "null")
    if schedule == "null":
        advice = "add - override /schedule: cosine to the defaults list of the experiment"
        found = f"schedule._target_: null in {run.name}/config.yaml"
        raise Wrong(found, "a class of torch.optim.lr_scheduler", advice)
    decay = run.settings.get("optimizer.weight_decay", "null")
    if not as_number(decay) > 0:
        advice = "add - override /optimizer: adamw to the defaults list of the experiment"
        found = f"optimizer.weight_decay: {decay} in {run.name}/config.yaml"
        raise Wrong(found, "a number greater than 0", advice)


def has_seeds(runs):
    """Two runs have the same settings, but different seeds."""
    groups = {}  # settings -> seeds
    for run in runs:
        if run.done and run.settings:
            own = [pair for pair in run.settings.items() if not pair[0].startswith(OF_A_RUN)]
            groups.setdefault(frozenset(own), set()).add(run.settings.get("seed"))
    most = max(map(len, groups.values()), default=0)
    if most < 2:
        found = f"{number_of(most, 'seed')} among the finished runs in logs/mine"
        advice = f"{MINE} seed=1,2, then wait for the jobs (without Slurm: seed=1, then seed=2)"
        raise Wrong(found, "2 seeds with the same other settings", advice)


def has_library_network(runs):
    """A network of torchvision was trained."""
    used = [run for run in runs if run.settings.get("network._target_", "").startswith("torchv")]
    if not used:
        advice = f"{MINE} experiment_name=mobilenet trainer.max_epochs=1"
        advice += " network=torchvision.models.mobilenet_v3_small"
        expected = "a run with network._target_: torchvision.models..."
        raise Wrong("none in the config.yaml of any run", expected, advice)
    if not any(run.done for run in used):
        has_ended(used[0])  # says why
        raise Wrong(f"no DONE.json in {used[0].name}", "a run that has ended", "run it again")


def has_predictions(runs):
    """The classes of images were predicted."""
    files = [file for run in runs if (file := run.folder / "predict.csv").is_file()]
    if not files:
        checkpoint = "logs/mine/version_0/checkpoints/best.ckpt"
        advice = "python run.py --local --from logs/mine/version_0 'stage=[test,predict]'"
        advice += f" ckpt={checkpoint} predict=logs/digits"
        raise Wrong("no predict.csv in any run", "the predictions of a run", advice)
    newest = max(files, key=lambda file: file.stat().st_mtime)
    with newest.open(newline="", errors="replace") as file:
        rows = list(csv.DictReader(file))
    name = "/".join(newest.parts[-4:])
    if not rows:
        advice = "name a folder of images with predict=..., and run stage=predict again"
        raise Wrong(f"no row in {name}", "one row per image", advice)
    if "file" not in rows[0] or not all(all(row.values()) for row in rows):
        found = f"{name} has no column file, or empty cells"
        raise Wrong(found, "the file and its prediction in each row", "predict again")


# --- the challenge


def augmentation():
    how = "write configs/experiment/rotated.yaml, then python run.py experiment=rotated"
    checks = [has_ended, has_its_epochs, rotates, has_one_cycle, learns_enough]
    run = run_of(10, trainings("rotated"), checks, how, experiment="rotated")
    return [(check, run) for check in checks]


def rotates(run):
    """The training images are rotated by a class of torchvision."""
    targets = run.settings.get("data.transform._target_", "")
    if not targets.startswith("torchvision.transforms.v2."):
        found = f"data.transform._target_: {targets or 'null'} in {run.name}/config.yaml"
        expected = "a class of torchvision.transforms.v2"
        advice = "set transform in the section data of the experiment: a list with one class"
        raise Wrong(found, expected, advice)


def has_one_cycle(run):
    """The schedule is one_cycle, and weights decay."""
    has_schedule(run)
    schedule = run.settings["schedule._target_"]
    if not schedule.endswith(".OneCycleLR"):
        advice = "add - override /schedule: one_cycle to the defaults list"
        raise Wrong(f"{schedule} in {run.name}/config.yaml", "one_cycle", advice)


def learns_enough(run):
    """The network has learned."""
    accuracy = run.test_accuracy
    if accuracy is None or not accuracy >= 0.8:
        advice = "train for 5 epochs or more, and rotate by 15 degrees or less"
        raise Wrong(f"test accuracy {accuracy} in {run.name}", "at least 0.8", advice)
