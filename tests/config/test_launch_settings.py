"""What run.py makes of settings: folders, config.yaml, batch scripts, jobs: make test-fast."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

import run
from login_node import SBATCH
from programs import LESSON_9
from src.config.compose import compose_runs
from src.config.problems import SettingsError
from src.config.schema import known_names
from src.launch import site_settings
from warm_python import WarmPython

MLP = "experiment=mnist_fully_connected"
# words of the command line -> what the only line says
WORDS = {
    "no key": (["=1"], "has no key of names and dots before its ="),
    "an index": (["trainer[max_epochs]=3"], "has no key of names and dots"),
    "a dot at the end": (["trainer.=1"], "has no key of names and dots"),
    "a key with a space": (["max epochs=1"], "has no key of names and dots"),
    "a key in other letters": (["séed=1"], "has no key of names and dots"),
    "a long key": (["x" * 100_000 + "=1"], "has no key of names and dots"),
    "a deep key": ([".".join("a" * 500) + "=1"], "has no key of names and dots"),
    "a key of no text": (["s\udcff=1"], "has no key of names and dots"),
    "brackets within brackets": (["seed=" + "[" * 60], "has more than 50 brackets"),
    "other digits": (["seed=١٢"], "cannot be read"),
    "a command": (["experiment_name=$(id)"], "cannot be read"),
    "a line": (["log_path='a\n#SBATCH --wrap=x'"], "is not a path that consists of"),
    "an address of two lines": (["slurm.email='a@b\n--x'"], "is not an e-mail address"),
    "an endless list": (["seed=range(1,100000000000)"], "describe more than 1000 jobs"),
    "lists of many jobs": (["seed=range(100)", "fold=range(100)"], "more than 1000 jobs"),
    "an interval": (["seed=interval(1,2)"], "must list its values: seed=a,b,c"),
    "the same twice": (["seed=1,2,1"], "lists a value twice"),
    "a huge number": (["trainer.max_epochs=1" + "0" * 5000], "Exceeds the limit"),
    "no file": (["network=null"], "needs a file: choose from fully_connected, mobilenet"),
    "two files": (["network=[resnet18,resnet34]"], "for a job with each, write network=a,b"),
    "the name of a file": (["experiment=mine.yaml"], "has no file configs/experiment/mine.yaml"),
    "a file elsewhere": (["experiment=../../../etc/passwd"], "has no file configs/experiment/"),
    "a path of a file": (["experiment=/etc/passwd"], "has no file configs/experiment/"),
    "another folder": (["experiment=../data/mnist"], "has no file configs/experiment/"),
    "Hydra's settings": (["hydra.run.dir=x"], "hydra is not a setting"),
    "a launcher of Hydra": (["hydra/launcher=basic"], "hydra/launcher is not a setting"),
    "a list of defaults": (["defaults=[]"], "defaults is not a setting"),
    "a broken reference": (["seed=${oc.decode:'{'}"], "seed cannot be resolved"),
    "a long warm-up": (
        ["schedule.warmup_epochs=10"],
        "schedule.warmup_epochs=10 must be less than trainer.max_epochs=10",
    ),
    "a module": (["network=torch.nn"], "it is a module: name a class in it"),
}
# what the file experiment/mine.yaml contains -> the line of the mistake, and what the message says
FILES = {
    "no text": (b"# @package _global_\nseed: \xff\n", ":2", "is not text in UTF-8"),
    "UTF-16": ("seed: 1\n".encode("utf-16"), ":1", "is not text in UTF-8"),
    "a zero byte": (b"# @package _global_\nseed: 1\x00\n", ":2", "a control character"),
    "much text": (b"# " + b"x" * 5_000_000, "", "is larger than 1 MB"),
    "two documents": (b"# @package _global_\nseed: 1\n---\nseed: 2\n", ":3", "is not YAML"),
    "a list": (b"# @package _global_\n- 1\n", "", "has no settings: write key: value"),
    "no first line": (b"seed: 3\n", "", "the first line of an experiment is # @package _global_"),
    "a bomb": (
        b"# @package _global_\na: &a [1, 1, 1, 1, 1, 1, 1, 1]\n"
        + b"".join(
            b"%c: &%c [%s]\n" % (n, n, b", ".join([b"*%c" % (n - 1)] * 8))
            for n in range(ord("b"), ord("h"))
        ),
        ":",
        "has more than 20000 values",
    ),
    "a circle": (b"# @package _global_\nmetrics: &m\n  a: *m\n", ":2", "or more than 30 levels"),
    "many brackets": (b"# @package _global_\nseed: " + b"[" * 500_000, ":2", "is not YAML"),
    "a tag": (b"# @package _global_\nseed: !!python/name:os.system\n", ":2", "is not YAML"),
    "a key that is a list": (b"# @package _global_\n? [1]\n: 2\n", ":2", "a key must be a name"),
    "a key that is no text": (b"# @package _global_\nyes: 2\n", ":2", "put the key yes in quotes"),
    "a dotted key": (b"# @package _global_\ntrainer.max_epochs: 2\n", ":2", "write trainer: and"),
    "Hydra's settings": (b"# @package _global_\nhydra: {}\n", ":2", "hydra is not a setting"),
    "an open reference": (b"# @package _global_\nlog_path: ${abc\n", ":2", "no viable alternative"),
    "defaults in a circle": (
        b"# @package _global_\ndefaults:\n  - /experiment: mine\n",
        "",
        "its defaults list leads back to itself",
    ),
    "no list of defaults": (b"# @package _global_\ndefaults: x\n", "", "must be a list"),
    "defaults elsewhere": (
        b"# @package _global_\ndefaults:\n  - ../../etc/passwd\n",
        "",
        "Could not load",
    ),
}


@dataclass
class Launched:
    code: int
    out: str
    error: str
    folders: list = field(default_factory=list)


@dataclass
class Launcher:
    """Calls run.py in this process, on a login node whose sbatch only records its script."""

    logs: Path
    record: Path
    capfd: pytest.CaptureFixture
    monkeypatch: pytest.MonkeyPatch

    def __call__(self, *words, cwd=run.ROOT):
        before = set(self.folders())
        self.monkeypatch.setattr("sys.argv", ["run.py", *map(str, words)])
        self.monkeypatch.setattr(run, "CWD", cwd)
        code = 0
        try:
            with run.plain_errors():
                run.main()
        except SystemExit as error:
            code = error.code
        out, error = self.capfd.readouterr()
        new = sorted(set(self.folders()) - before, key=lambda folder: folder.name)
        return Launched(code, out, error, new)

    def folders(self):
        return list(self.logs.glob("*/version_*"))

    def scripts(self):
        return sorted(file.read_text() for file in self.record.glob("script.*"))

    def submitted(self, *words, **kwargs):
        """Launch one run, and return its folder."""
        done = self(*words, f"log_path={self.logs}", **kwargs)
        assert done.code == 0, done.error
        [folder] = done.folders
        return folder


@pytest.fixture
def launch(tmp_path, capfd, monkeypatch):
    programs, record, logs = (tmp_path / name for name in ("bin", "record", "logs"))
    programs.mkdir()
    record.mkdir()
    sbatch = programs / "sbatch"
    sbatch.write_text(SBATCH)
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("RECORD", str(record))
    for name in [n for n in os.environ if n.startswith(("SLURM_", "SBATCH_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(run.ROOT)
    site_settings.read_site.cache_clear()
    yield Launcher(logs, record, capfd, monkeypatch)
    site_settings.read_site.cache_clear()


def settings_in(folder):
    return yaml.safe_load((folder / "config.yaml").read_text())


def edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def write_experiment(folder, text, name="mine"):
    file = folder / f"experiment/{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"# @package _global_\n{text}")
    return file


def refused(launch, *words, code=2, **kwargs):
    """Launch what must be refused in one sentence; return that."""
    done = launch(*words, **kwargs)
    assert done.code == code, done
    assert done.error.count("\n") == 1, done.error
    assert done.out == ""
    assert len(done.error) < 600
    assert not done.folders
    assert not launch.scripts()
    return done.error


# --- mistakes


@pytest.mark.parametrize("name", WORDS)
def test_a_hostile_word_is_refused_in_one_sentence(name):
    words, expected = WORDS[name]

    with pytest.raises(SettingsError) as error:
        compose_runs(words)

    [line] = error.value.problems
    assert expected in line
    assert "\n" not in line
    assert len(line) < 600


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_file_of_settings_is_named(name, tmp_path):
    data, line, expected = FILES[name]
    file = tmp_path / "experiment/mine.yaml"
    file.parent.mkdir()
    file.write_bytes(data)

    with pytest.raises(SettingsError) as error:
        compose_runs(["experiment=mine"], tmp_path)

    [sentence] = error.value.problems
    assert sentence.startswith(f"{file}{line}")
    assert expected in sentence
    assert "\n" not in sentence
    assert len(sentence) < 400


@pytest.mark.parametrize("kind", ["folder", "loop", "nowhere"])
def test_only_files_can_be_chosen(kind, tmp_path):
    file = tmp_path / "experiment/mine.yaml"
    file.parent.mkdir()
    if kind == "folder":
        file.mkdir()
    else:
        file.symlink_to("mine.yaml" if kind == "loop" else "nothing.yaml")

    with pytest.raises(SettingsError, match="experiment=mine has no file"):
        compose_runs(["experiment=mine"], tmp_path)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--config_dir=/nothing", "--config_dir /nothing: No such file or directory"),
        ("--config_dir=/etc/passwd", "--config_dir /etc/passwd: Not a directory"),
        ("--config_dir=", "--config_dir is empty: name a folder"),
        ("--resume=", "--resume is empty: name a folder"),
        ("--from=", "--from is empty: name a folder"),
        ("--resume=logs --config_dir=configs", "--resume reads the settings of the run only"),
        ("--max_epochs=3", "settings are written without dashes: trainer.max_epochs=..."),
        ("slurm.options=['--x=\"a']", "slurm.options: '--x=\"a' cannot be in an #SBATCH line"),
        ("slurm.options=['--nodes=2']", "use slurm.num_nodes instead"),
    ],
)
def test_an_option_that_cannot_be_used_submits_nothing(launch, option, expected):
    assert expected in refused(launch, *option.split(), f"log_path={launch.logs}")


def test_a_config_yaml_of_ones_own_would_replace_the_defaults(tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 5\n")

    with pytest.raises(SettingsError, match=r"config.yaml: would replace all of configs/config"):
        compose_runs([], tmp_path)


def test_many_mistakes_are_not_many_screens(tmp_path):
    many = "".join(f"  m{n}: {{a: {n}}}\n" for n in range(200))
    write_experiment(tmp_path, f"metrics:\n{many}")

    with pytest.raises(SettingsError) as error:
        compose_runs(["experiment=mine"], tmp_path)

    *first, last = str(error.value).splitlines()
    assert len(first) == 20
    assert last == "and 180 more mistakes"


# --- several runs


SIX = ["seed=1,2,3", "network=resnet18,resnet34"]


def test_lists_make_a_job_for_each_combination(launch):
    done = launch(*SIX, f"log_path={launch.logs}")

    assert done.code == 0, done.error
    names = [f"seed_{seed}-network_{net}" for seed in "123" for net in ("resnet18", "resnet34")]
    folders = [f"version_{number}-{name}" for number, name in enumerate(names)]
    assert [folder.name for folder in done.folders] == folders
    assert len(launch.scripts()) == 6
    assert len(re.findall(r"^job \d+ -> ", done.out, re.MULTILINE)) == 6
    assert settings_in(done.folders[3])["seed"] == 2
    assert settings_in(done.folders[3])["network"]["arch"] == "resnet34"
    assert str(done.folders[3]) in "".join(launch.scripts())


def test_a_dry_run_lists_the_runs_and_prints_one_script(launch):
    done = launch(*SIX, "--dry-run")

    assert done.code == 0, done.error
    assert done.out.count("#!/bin/bash") == 1
    lines = done.out.splitlines()
    assert lines[0] == "# run 1: logs/cifar10/version_N-seed_1-network_resnet18"
    assert lines[5] == "# run 6: logs/cifar10/version_N-seed_3-network_resnet34"
    assert not done.folders
    assert not launch.scripts()


def test_more_than_20_jobs_need_a_yes(launch, monkeypatch):
    submitted = []
    words = ["seed=range(21)", f"log_path={launch.logs}"]

    assert "these lists describe 21 jobs: add --yes to submit them" in refused(launch, *words)
    assert launch(*words, "--dry-run").code == 0
    monkeypatch.setattr(run, "submit", lambda runs, *_: submitted.extend(runs))
    launch(*words, "--yes")
    assert len(submitted) == 21


@pytest.mark.parametrize("wrong", ["trainer.max_epochs=-1", "seed=1,2,x", "-- --nodes=2"])
def test_a_mistake_in_one_run_submits_none_and_is_named_once(launch, wrong):
    words = [f"log_path={launch.logs}", "network=resnet18,resnet34", *wrong.split()]

    refused(launch, *words)


def test_a_list_needs_jobs(launch):
    error = refused(launch, "--local", "seed=1,2", f"log_path={launch.logs}")

    assert "these lists describe 2 runs, each for a job" in error


# --- files of configs of one's own


def test_files_of_a_project_win_over_those_of_the_kit(launch, tmp_path):
    project = tmp_path / "my project"
    write_experiment(project, "trainer:\n  max_epochs: 3\n", "cifar10_resnet18")
    for group, text in (("data", "batch_size: 32"), ("network", "arch: resnet34")):
        (project / group).mkdir()
        kit = (run.ROOT / "configs" / group).glob("*.yaml")
        name = {"data": "cifar10", "network": "resnet18"}[group]
        first = next(file for file in kit if file.stem == name).read_text().splitlines()
        target = next(line for line in first if line.startswith("_target_"))
        (project / group / f"{name}.yaml").write_text(f"{target}\n{text}\n")
    words = ["--config_dir=my project", "experiment=cifar10_resnet18"]

    folder = launch.submitted(*words, cwd=tmp_path)

    found = settings_in(folder)
    assert found["trainer"]["max_epochs"] == 3
    assert found["data"]["batch_size"] == 32
    assert found["network"]["arch"] == "resnet34"
    # neither the job nor a repetition needs the folder
    assert "my project" not in "".join(launch.scripts())
    text = (folder / "config.yaml").read_text()
    assert "my project" not in text
    for file in project.rglob("*.yaml"):
        file.unlink()
    again = launch.submitted("--from", folder)
    assert (again / "config.yaml").read_text() == text


def test_a_path_may_begin_with_the_home_folder(launch, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "my_data").mkdir()

    folder = launch.submitted("data.data_dir=~/my_data")

    assert settings_in(folder)["data"]["data_dir"] == str(tmp_path / "my_data")


def test_a_setting_of_a_project_counts_as_given(launch, tmp_path, monkeypatch):
    write_experiment(tmp_path / "project", "slurm:\n  time_min: 90\n")
    site = {"NO_MEM": "", **dict.fromkeys(site_settings.OPTIONS, ""), "SBATCH_TIMELIMIT": "7"}
    monkeypatch.setattr(run, "site_settings", lambda: site)

    def time_of(*words):
        return re.search(r"--time=(\S+)", launch("--dry-run", *words).out)[1]

    assert time_of() == "7"
    assert time_of("slurm.time_min=60") == "01:00:00"
    assert time_of("--config_dir", tmp_path / "project", "experiment=mine") == "01:30:00"


CONFIGS = run.ROOT / "configs"
CHOICES = sorted(file.relative_to(CONFIGS).with_suffix("") for file in CONFIGS.glob("*/*.yaml"))
NEEDS = {"data/image_folder": ["data.path=data"], "model/regressor": ["loss=mse"]}


@pytest.mark.parametrize("choice", map(str, CHOICES))
def test_each_file_of_the_kit_can_be_chosen(choice):
    group, _, name = choice.partition("/")

    [composed] = compose_runs([f"{group}={name}", *NEEDS.get(choice, [])])

    assert composed.choices[group] == name


@pytest.mark.parametrize("option", ["--from", "--resume"])
def test_the_site_decides_what_a_run_has_not_set_when_it_goes_on(launch, monkeypatch, option):
    site = {"NO_MEM": "1", **dict.fromkeys(site_settings.OPTIONS, ""), "SBATCH_TIMELIMIT": "7"}
    monkeypatch.setattr(run, "site_settings", lambda: site)
    plain, timed = launch.submitted(MLP), launch.submitted(MLP, "slurm.time_min=90")

    def script(folder, *words):
        return launch("--dry-run", option, folder, *words).out

    assert "--mem=" not in script(plain)
    assert "--time=7\n" in script(plain)
    assert "--time=01:30:00\n" in script(timed)
    assert "--time=00:45:00\n" in script(plain, "slurm.time_min=45")
    assert "--mem=3072M\n" in script(plain, "slurm.mem_gb=3")


# --- help


def test_help_tells_of_every_setting_its_default_place_and_meaning(launch):
    done = launch("--help")

    assert done.code == 0, done.error
    settings = done.out.partition("Settings, their defaults")[2]
    found = re.findall(r"^  ([\w.]+)=(.*)\n((?:      .*\n)+)", settings, re.MULTILINE)
    about = {name: (value, " ".join(text.split())) for name, value, text in found}
    assert {*known_names()} <= {*about} | {name.partition(".")[0] for name in about}
    for name, (_, text) in about.items():
        meaning, _, place = text.rpartition("[")
        assert re.fullmatch(r"configs/[\w/]+\.yaml:\d+\]|src/config/schema.py\]", place), text
        assert meaning or name.endswith("_target_"), name
    lr = ("0.001", "learning rate [configs/optimizer/adam.yaml:2]")
    assert about["optimizer.lr"] == lr
    assert "minutes" in about["slurm.time_min"][1]
    assert max(map(len, done.out.splitlines())) < 100


def test_print_config_is_yaml_with_the_place_of_each_value(launch, tmp_path):
    file = write_experiment(tmp_path, "stage: [fit]\ntrainer:\n  max_epochs: 3\n")
    words = [f"--config_dir={tmp_path}", "experiment=mine", "seed=7", "optimizer=sgd"]

    done = launch(*words, "--print-config", "callbacks.x={_target_: lightning.Callback}")

    assert done.code == 0, done.error
    [composed] = compose_runs([*words[1:], "callbacks.x={_target_: lightning.Callback}"], tmp_path)
    assert yaml.safe_load(done.out) == composed.values
    places = dict(re.findall(r"^ *([\w-]+):.*  # (.+)$", done.out, re.MULTILINE))
    assert places["seed"] == "command line"
    assert places["stage"] == f"{file}:2"
    assert places["max_epochs"] == f"{file}:4"
    assert places["momentum"] == "configs/optimizer/sgd.yaml:3"
    assert re.search(r"_target_: lightning.Callback +# command line$", done.out, re.MULTILINE)
    for line in done.out.splitlines():
        has_value = not line.rstrip().endswith(":") and not line.lstrip().startswith("- ")
        assert not has_value or "  # " in line, line


@pytest.mark.parametrize(
    ("redirection", "code"),
    [
        ("--help | head -n 1", 0),
        ("--dry-run | head -n 0", 0),
        ("--print-config >&- 2>&- <&-", 0),
        ("sede=1 >&- 2>&- <&-", 2),
        ("--help >/dev/full", 1),
    ],
)
def test_a_reader_that_goes_away_is_no_bug(redirection, code):
    python = f"set -o pipefail; {sys.executable} {run.ROOT}/run.py"
    done = subprocess.run(
        ["bash", "-c", f"{python} {redirection}"], capture_output=True, text=True, check=False
    )

    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == (redirection == "--help >/dev/full")


# --- repeating and continuing a run


def test_a_run_is_repeated_though_configs_have_been_broken(launch, monkeypatch, tmp_path):
    folder = launch.submitted(MLP, "seed=7", "optimizer.lr=0.02", "trainer.max_epochs=3")
    monkeypatch.setattr("src.config.compose.CONFIGS", tmp_path / "gone")
    monkeypatch.setattr("src.config.words.CONFIGS", tmp_path / "gone")

    again = launch.submitted("--from", folder)
    longer = launch.submitted("--from", folder, "trainer.max_epochs=30")

    assert (again / "config.yaml").read_text() == (folder / "config.yaml").read_text()
    changed = settings_in(longer)
    assert changed["trainer"].pop("max_epochs") == 30
    before = settings_in(folder)
    before["trainer"].pop("max_epochs")
    assert changed == before


def test_a_continued_run_gets_only_what_may_change(launch):
    folder = launch.submitted(MLP)
    text = (folder / "config.yaml").read_text()
    for script in launch.record.iterdir():
        script.unlink()

    error = launch("--resume", folder, "seed=7", "network=resnet18").error
    assert f"seed=7: {folder} continues with its own value, 1234" in error
    assert "network._target_=" in error
    assert (folder / "config.yaml").read_text() == text
    assert not launch.scripts()

    done = launch("--resume", folder, "slurm.time_min=90", "trainer.max_epochs=20")
    assert done.code == 0, done.error
    assert not done.folders
    [script] = launch.scripts()
    assert "--time=01:30:00" in script
    assert settings_in(folder)["trainer"]["max_epochs"] == 20


def test_a_refused_continuation_changes_nothing(launch, tmp_path):
    folder = launch.submitted(MLP)
    text = (folder / "config.yaml").read_text()
    (tmp_path / "bin/sbatch").write_text("#!/bin/bash\necho 'no such partition' >&2; exit 1\n")

    done = launch("--resume", folder, "trainer.max_epochs=20")

    assert (done.code, done.error.partition(";")[0]) == (1, "not submitted: no such partition")
    assert (folder / "config.yaml").read_text() == text
    new = launch(MLP, f"log_path={launch.logs}")
    assert new.code == 1
    assert not new.folders


@pytest.mark.parametrize("place", [[], ["--local"]])
def test_only_a_longer_training_continues_a_finished_run(launch, monkeypatch, place):
    started = []

    def execv(_, words):
        started.append(words[1:])
        raise SystemExit(0)  # it does not come back

    monkeypatch.setattr("os.execv", execv)
    folder = launch.submitted(MLP)
    before = len(launch.scripts())
    (folder / "DONE.json").write_text('{"epochs": 7, "max_epochs": 10}')

    done = launch("--resume", folder, *place)
    assert done.code == 0, done.error
    assert (started, len(launch.scripts())) == ([], before)
    assert done.out == f"{folder} is finished, see {folder}/DONE.json: nothing to do\n"

    launch("--resume", folder, "trainer.max_epochs=12", *place)
    if place:
        assert started[0] == [f"{folder}/code/src/main.py", str(folder)]
    else:
        assert len(launch.scripts()) == before + 1
    assert settings_in(folder)["trainer"]["max_epochs"] == 12


def test_a_run_without_its_program_cannot_continue(launch):
    folder = launch.submitted(MLP)
    text = (folder / "config.yaml").read_text()
    (folder / "code/src/main.py").unlink()

    for words in ([], ["--local"]):
        done = launch("--resume", folder, "trainer.max_epochs=20", *words)
        assert done.code == 1
        assert "code/src/main.py is missing" in done.error
    assert (folder / "config.yaml").read_text() == text


def test_an_edited_file_of_a_run_is_checked(launch):
    folder = launch.submitted(MLP)
    edit(folder / "config.yaml", "max_epochs:", "max_epoch:")
    for script in launch.record.iterdir():
        script.unlink()

    for option in ("--resume", "--from"):
        done = launch(option, folder)
        assert done.code == 2
        assert re.search(r"config.yaml:\d+: trainer.max_epoch is not a setting; did you mean "
                         r"trainer.max_epochs\?", done.error)  # fmt: skip
    assert not launch.scripts()


def test_a_broken_site_leaves_no_folder(launch, monkeypatch):
    def broken():
        raise run.UserError("not submitted: site.sh: line 1: nonsense")

    monkeypatch.setattr(run, "site_settings", broken)

    assert "nonsense" in refused(launch, f"log_path={launch.logs}", "seed=1,2", code=1)


# --- trainings


# notes what each step has used and computed
TRACE = """
import json, os
import lightning as L

class Trace(L.Callback):
    def setup(self, trainer, pl_module, stage):
        trainer.limit_test_batches = 1

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        images, labels = batch
        step = [trainer.global_step, labels.tolist(), images.sum().item(), outputs["loss"].item()]
        with open(f"{os.environ['TRACE']}-{trainer.global_rank}", "a") as file:
            file.write(json.dumps(step) + chr(10))
"""
LINE = re.compile(r"^.*((?:epoch|test loss) .*)$", re.MULTILINE)


@dataclass
class Trainer:
    """Trains in a process that has already imported PyTorch."""

    python: WarmPython
    folder: Path
    env: dict[str, str]

    def __call__(self, *words, cwd, name):
        """Run Python with these words; return the steps of all processes, and the lines."""
        before = f"sys.path.append({str(self.folder)!r})"
        env = {**self.env, "TRACE": str(self.folder / name), "PYTHONPATH": str(self.folder)}
        done = self.python.run(*map(str, words), cwd=cwd, before=before, **env)
        assert done.returncode == 0, done.stderr
        steps = [file.read_text() for file in sorted(self.folder.glob(f"{name}-*"))]
        lines = LINE.findall(done.stdout + done.stderr)
        return steps, [re.sub(r" *\d+ images/s.*| +[\d.]+ s\b", "", line) for line in lines]

    def job(self, folder, name):
        """Do what a job does with the folder of a run."""
        return self(folder / "code/src/main.py", folder, cwd=run.ROOT, name=name)


@pytest.fixture
def trainer(warm_python, sample_data, tmp_path, monkeypatch):
    (tmp_path / "step_trace.py").write_text(TRACE)
    monkeypatch.syspath_prepend(tmp_path)
    return Trainer(warm_python, tmp_path, {"DATA_DIR": str(sample_data)})


NOTED = ["trusted=[step_trace]", "callbacks.trace={_target_: step_trace.Trace}"]
SHORT = {"max_epochs": 2, "limit_train_batches": 3, "limit_val_batches": 1}


@pytest.mark.parametrize("processes", [1, 2])
def test_the_defaults_give_the_numbers_of_lesson_9(launch, trainer, tmp_path, processes):
    lesson_9 = tmp_path / "lesson_9"
    shutil.copytree(LESSON_9, lesson_9)
    edit(lesson_9 / "src/main.py", "            CleanStart(),\n",
         "            CleanStart(),\n            __import__('step_trace').Trace(),\n")  # fmt: skip
    settings = [f"trainer.{name}={value}" for name, value in SHORT.items()]
    words = [f"--{name}={value}" for name, value in SHORT.items()]
    settings.append("data.batch_size=16")  # a step of a ResNet takes long
    words.append("--batch_size=16")
    if processes == 2:  # a small network, since each process imports PyTorch
        settings += [MLP, "slurm.devices=2"]
        words += ["--dataset=mnist", "--arch=fully_connected", "--devices=2"]

    before = trainer("run.py", "--local", *words, f"--log_path={tmp_path}/9", cwd=lesson_9,
                     name="nine")  # fmt: skip
    folder = launch.submitted(*settings, *NOTED)
    now = trainer.job(folder, "ten")

    assert len(before[0]) == processes
    assert before[0][0].count("\n") == 6
    assert now == before


def test_a_run_is_repeated_from_its_folder_with_the_same_steps(launch, trainer, monkeypatch,
                                                               tmp_path):  # fmt: skip
    short = [f"trainer.{name}={value}" for name, value in SHORT.items()]
    folder = launch.submitted(MLP, *short, *NOTED, "seed=7", "optimizer=sgd", "schedule=cosine")
    first = trainer.job(folder, "first")
    monkeypatch.setattr("src.config.compose.CONFIGS", tmp_path / "gone")

    # a run outside the repository does not say what is trusted
    again = launch.submitted("--from", folder, "trusted=[step_trace]")

    assert (again / "config.yaml").read_text() == (folder / "config.yaml").read_text()
    assert trainer.job(again, "again") == first
    # by hand, too: once its results are gone
    for result in [*again.glob("checkpoints"), *again.glob("*.json*"), *again.glob("events*")]:
        shutil.rmtree(result) if result.is_dir() else result.unlink()
    assert trainer("-m", "src.main", again, cwd=run.ROOT, name="hand") == first


EXPERIMENTS = sorted(file.stem for file in (run.ROOT / "configs/experiment").glob("*.yaml"))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_each_experiment_runs_two_batches(launch, trainer, experiment):
    folder = launch.submitted(f"experiment={experiment}", "trainer.fast_dev_run=2", *NOTED)

    steps, _ = trainer.job(folder, "steps")

    assert steps[0].count("\n") == 2


# --- what must not be lost, and what must not run


def test_more_epochs_are_refused_if_the_schedule_has_the_length_of_the_training(launch):
    cosine = launch.submitted(MLP, "schedule=cosine")
    step = launch.submitted(MLP, "schedule=step")

    done = launch("--resume", cosine, "trainer.max_epochs=30")
    longer = launch("--resume", step, "trainer.max_epochs=30")

    assert done.code == 2
    assert "the schedule of" in done.error
    assert "start a longer run with --from, and init_from for its weights" in done.error
    assert longer.code == 0, longer.error
    assert settings_in(step)["trainer"]["max_epochs"] == 30


def test_a_continuation_is_added_to_the_command_of_the_run(launch):
    folder = launch.submitted(MLP, "seed=7")

    assert launch("--resume", folder, "trainer.max_epochs=30").code == 0

    first, second = (folder / "command.txt").read_text().splitlines()
    assert first.startswith("python run.py experiment=mnist_fully_connected seed=7")
    assert second == f"python run.py --resume {folder} trainer.max_epochs=30"


def test_the_settings_of_a_run_are_shown_and_not_continued(launch):
    folder = launch.submitted(MLP, "seed=7")
    scripts = launch.scripts()

    done = launch("--resume", folder, "--print-config")

    assert done.code == 0, done.error
    assert f"{folder}/config.yaml:" in done.out
    assert launch.scripts() == scripts


def test_options_of_sbatch_have_no_effect_here(launch):
    error = refused(launch, "--local", "--", "--constraint=a100")

    assert error.startswith("--constraint=a100 after -- is for sbatch")


def test_a_file_sets_no_variables_of_the_job(launch):
    options = "slurm.options=['--export=ALL,BASH_ENV=/x']"

    assert "may be given only on the command line" in refused(launch, options)
    assert launch("--dry-run", "--", "--export=NONE").code == 0


def test_a_run_outside_the_repository_does_not_say_what_is_trusted(launch):
    foreign = launch.submitted(MLP, "trusted=[json]")

    done = launch("--from", foreign)

    assert done.code == 2
    assert "trusted=['json'] may be set only in" in done.error
    assert not done.folders
    assert launch("--from", foreign, "trusted=[json]").code == 0
