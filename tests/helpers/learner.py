"""A folder like that of a learner, for the tests of check.py.

It contains the files that the lesson's program writes and, where there is a cluster, commands that
answer as Slurm does.
"""

import itertools
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import yaml
from torch.utils.tensorboard import SummaryWriter

from clone import ROOT
from lesson_diffs import lessons

FILES = lessons(ROOT)
LESSONS = sorted(FILES)
BRANCHES = {int(path.name.split("-")[0]): path.stem for path in ROOT.glob("lessons/*-*.txt")}
TAGS = ["train_loss", "train_acc", "val_loss", "val_acc"]
UNFINISHED = ("RUNNING", "PENDING", "SIGNALING")
PICTURES = ["images/confusion_matrix", "images/examples", "images/predictions"]
# lesson -> the runs that its page asks for: experiment, settings, test accuracy on sample and full
DIGITS, PHOTOS, RESNET = (0.95, 0.97), (0.2, 0.45), (0.75, 0.76)
SETTINGS = {
    "seed": 1234,
    "stage": ["fit", "test"],
    "data.batch_size": 64,
    "network._target_": "src.networks.fully_connected.FullyConnected",
    "optimizer.weight_decay": 0.01,
    "schedule._target_": "torch.optim.lr_scheduler.CosineAnnealingLR",
}
MOBILENET = {"network._target_": "torchvision.models.mobilenet_v3_small"}
RUNS = {
    1: [("", {}, DIGITS)],
    2: [("", {}, DIGITS)],
    3: [("", {"num_workers": 2}, DIGITS)],
    4: [
        ("mnist", {"learning_rate": 0.001}, DIGITS),
        *(("rates", {"learning_rate": rate}, DIGITS) for rate in (0.001, 0.003, 0.0003)),
    ],
    5: [("metrics", {"optimizer": name}, DIGITS) for name in ("Adam", "SGD")],
    6: [
        ("cifar10", {"dataset": "cifar10"}, PHOTOS),
        ("mnist", {"dataset": "mnist"}, DIGITS),
        ("workers", {"dataset": "cifar10", "num_workers": 2}, PHOTOS),
    ],
    7: [
        ("cifar10", {"dataset": "cifar10", "arch": "resnet18"}, RESNET),
        ("cifar10", {"dataset": "cifar10", "arch": "fully_connected"}, PHOTOS),
    ],
    8: [("cifar10", {"dataset": "cifar10", "num_nodes": 2, "devices": 2}, RESNET)],
    9: [("interrupted", {"dataset": "cifar10", "arch": "resnet18"}, RESNET)],
    10: [
        *(("mine", {**SETTINGS, "seed": seed}, DIGITS) for seed in (1234, 1, 2)),
        ("mobilenet", {**SETTINGS, **MOBILENET}, DIGITS),
        ("mine", {**SETTINGS, "stage": ["test", "predict"]}, DIGITS),
    ],
}


class Learner:
    """A folder in which a learner has worked on a lesson."""

    def __init__(self, folder, lesson):
        self.folder, self.lesson = folder, lesson
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        # copies: the folder of the program is that of the learner
        shutil.copy(ROOT / "check.py", folder)
        shutil.copytree(ROOT / "checks", folder / "checks")
        self.states = {}
        self.run_folders = {}  # job -> folder of its run, which Slurm knows from lesson 9 on
        self.job = 10
        self.git("init", "--quiet", f"--initial-branch={BRANCHES[lesson]}")
        self.program(lesson, folder)

    def git(self, *words):
        command = ["git", "-C", str(self.folder), *words]
        subprocess.run(command, check=True, capture_output=True)

    def program(self, lesson, folder):
        for name, text in FILES[lesson].items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)

    def runs(self, which=None, **state):
        """Write what the runs of the lesson leave behind; `which` selects one of them."""
        runs = RUNS[self.lesson]
        for experiment, settings, accuracy in runs if which is None else [runs[which]]:
            self.run(experiment, settings, accuracy, **state)

    def run(
        self,
        experiment,
        settings,
        accuracy,
        *,
        data="sample",
        epochs=10,
        of=10,
        ended=True,
        says="",
        state="COMPLETED",
        job=True,
        lesson=None,
        empty=False,
        attempts=2,
    ):
        self.job += 1
        lesson = lesson or self.lesson
        sample = ", sample: some images" if data == "sample" else ""
        time = "2026-11-26 09:00:00,000 INFO " if lesson > 4 else ""
        lines = [f"data: MNIST{sample}, 4 files checked in /home/ada/data/MNIST"]
        lines += ["device: cpu, logs: somewhere"] if 1 < lesson < 5 else []
        processes = settings.get("num_nodes", 1) * settings.get("devices", 1)
        lines += [f"processes: {processes} (nodes: 2, devices per node: 2)"] if lesson == 8 else []
        test = accuracy[data == "full"]
        for number in range(1, epochs + 1):
            numbers = f"train loss {2 / number:.4f} acc 0.5000  val loss 0.5000 acc {test:.4f}"
            lines.append(f"epoch {number:2d}/{of}  {numbers}")
        lines += [f"test loss 0.3000 acc {test:.4f}"] if ended else []
        text = "" if empty else "".join(f"{time}{line}\n" for line in lines)
        self.states[self.job] = state
        folder, log, errors = self.places(lesson, experiment, job)
        self.newest = str((folder or log).relative_to(self.folder))
        if log:
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(text + ("" if errors else says))
        if errors:
            errors.parent.mkdir(parents=True, exist_ok=True)
            errors.write_text(says)
        if folder and not empty:
            epochs_setting = "trainer.max_epochs" if lesson > 9 else "max_epochs"
            self.fill(folder, lesson, {**settings, epochs_setting: of}, experiment)
            if ended:
                done = {"epochs": of, "steps": 220, "test_acc": test}
                (folder / "DONE.json").write_text(json.dumps(done))
            if lesson > 8:
                self.interrupt(folder, epochs, attempts if epochs else 0, job)

    def interrupt(self, folder, epochs, attempts, job=True):
        """Let a run look as if its job had been interrupted in the middle of some epochs."""
        steps = [22 * epochs * k // max(attempts, 1) for k in range(attempts + 1)]
        lines = [
            {"job": str(self.job) if job else None, "restart": k, "from_step": a, "to_step": b}
            for k, (a, b) in enumerate(itertools.pairwise(steps))
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "attempts.jsonl").write_text(text)
        self.draw(folder, [22 * (k + 1) for k in range(epochs)])
        for path in folder.glob("checkpoints/*.ckpt"):
            path.rename(path.with_name("best.ckpt"))
        for name in ("last", "previous"):
            shutil.copy(folder / "checkpoints/best.ckpt", folder / f"checkpoints/{name}.ckpt")

    def draw(self, folder, steps):
        """Replace the curves of a run."""
        for path in folder.glob("events.*"):
            path.unlink()
        with SummaryWriter(str(folder)) as writer:
            for tag in TAGS:
                for step in steps:
                    writer.add_scalar(tag, 1, step)

    def places(self, lesson, experiment, job):
        """Return the folder, the log and the error log of a run."""
        if lesson < 4:
            number = self.job if job else 0
            folder = self.folder / f"lightning_logs/version_{number}" if lesson > 1 else None
            named = self.folder / f"slurm.{self.job if job else 0}.out"
            return folder, named if job or lesson == 1 else None, None
        logs = self.folder / "logs" / experiment
        number = len(list(logs.glob("version_*")))
        folder = logs / f"version_{number}"
        folder.mkdir(parents=True)
        if not job:
            return folder, None, None
        if lesson > 8:
            (folder / "job.sh").write_text("#!/bin/bash\n")
            self.program(lesson, folder / "code")
            self.run_folders[self.job] = folder.relative_to(self.folder)
            return folder, folder / "job.out", folder / "job.err"
        (logs / "slurm_scripts").mkdir(exist_ok=True)
        (logs / f"slurm_scripts/version_{number}.sh").write_text("#!/bin/bash\n")
        name = f"version_{number}_{self.job}"
        return folder, logs / f"slurm_out_logs/{name}.out", logs / f"slurm_err_logs/{name}.err"

    def fill(self, folder, lesson, settings, experiment):
        folder.mkdir(parents=True, exist_ok=True)
        settings = {"experiment_name": experiment, "learning_rate": 0.001, **settings}
        if lesson > 9:
            self.configure(folder, settings)
        else:
            hparams = "".join(f"{name}: {value}\n" for name, value in settings.items())
            (folder / "hparams.yaml").write_text(f"{hparams}dims:\n- 1\n- 28\n")
        if lesson > 3:
            self.program(lesson, folder / "code")
        (folder / "checkpoints").mkdir(exist_ok=True)
        with zipfile.ZipFile(folder / "checkpoints/epoch=9-step=220.ckpt", "w") as checkpoint:
            checkpoint.writestr("archive/data.pkl", "weights")
        with SummaryWriter(str(folder)) as writer:
            for tag in (*TAGS, *(PICTURES if lesson > 4 else ())):
                writer.add_scalar(tag, 1, 1)
        (folder / "fit-profile.txt").write_text("FIT Profiler Report\n")

    def configure(self, folder, settings):
        """Write what run.py writes from lesson 10 on; a.b is the setting b in the section a."""
        config = {}
        for name, value in settings.items():
            *sections, last = name.split(".")
            section = config
            for part in sections:
                section = section.setdefault(part, {})
            section[last] = value
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        (folder / "command.txt").write_text("python run.py experiment=mine\n")
        if "predict" in settings.get("stage", ()):
            (folder / "predict.csv").write_text("file,prediction,0\ndigits/1.png,1 - one,0.1\n")

    def check(self, *words, slurm=True):
        if slurm:
            self.install("squeue", "UNFINISHED")
            self.install("sacct", "FINISHED")
            self.install("sbatch", "")
        path = os.pathsep.join([str(self.bin), *os.get_exec_path()])
        env = {**os.environ, "PATH": path if slurm else without_slurm(self.folder)}
        command = [sys.executable, str(self.folder / "check.py"), *words]
        return subprocess.run(command, capture_output=True, text=True, env=env, cwd=self.folder)

    def install(self, name, kind):
        """Install a command that knows the states of the jobs; squeue forgets those that ended."""
        cases = "".join(
            f"*{job}*) echo {state} ;;\n"
            for job, state in self.states.items()
            if kind and (kind == "FINISHED" or state in UNFINISHED)
        )
        rows = "".join(
            f"echo '{job}  {self.folder}/slurm.%j.out  '; "
            for job, state in self.states.items()
            if state in UNFINISHED
        )
        folders = "".join(
            f"echo '{job}|{self.folder}|{folder}'; "
            for job, folder in self.run_folders.items()
            if self.states.get(job) in UNFINISHED
        )
        cases = f"*--me*STDOUT*) {rows or ':'} ;;\n*--me*%k*) {folders or ':'} ;;\n{cases}"
        (self.bin / name).write_text(f'#!/bin/bash\ncase "$*" in\n{cases}esac\n')
        (self.bin / name).chmod(0o755)


def challenge(learner, name, **kwargs):
    return learner.check("--challenge", name, **kwargs)


def fails(done, *words):
    """Expect what was found, what was expected and what to try, with these words."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.startswith("FAIL after "), done.stdout
    starts = [line.partition(":")[0].strip() for line in done.stdout.splitlines()]
    assert starts[1:4] == ["found", "expected", "try"], done.stdout
    assert set(starts[4:]) <= {"newer"}, done.stdout
    for word in words:
        assert word in done.stdout, done.stdout
    assert done.stderr == ""


def without_slurm(folder):
    """Return a PATH that has git but no Slurm."""
    place = folder / "without-slurm"
    place.mkdir()
    git = next(path for path in os.get_exec_path() if (Path(path) / "git").exists())
    (place / "git").symlink_to(Path(git) / "git")
    return str(place)
