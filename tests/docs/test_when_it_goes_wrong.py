"""What the pages list under "When it goes wrong", caused in the lessons: make test.

The rows that need Slurm are in tests/slurm and tests/faults.
"""

import ast
import hashlib
import pickle
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from clone import ROOT, Hostile, epochs
from login_node import FakeLoginNode
from page_rows import PAGES, advice, row, rows, shows

BRANCHES = {int(path.name.split("-")[0]): path.stem for path in ROOT.glob("lessons/*-*.txt")}
SHORT = ["--local", "--max_epochs=1", "--num_workers=0"]

# --- every row has a test


def calls(name):
    """Return page and row of each call of a function of page_rows.py in a test."""
    for path in ROOT.glob("tests/**/test_*.py"):
        for test in ast.parse(path.read_text()).body:
            if isinstance(test, ast.FunctionDef) and test.name.startswith("test_"):
                for node in ast.walk(test):
                    if isinstance(node, ast.Call) and ast.unparse(node.func) == name:
                        yield tuple(ast.literal_eval(word) for word in node.args[:2])


def test_every_row_is_caused_by_a_test():
    caused = {(page, row(page, beginning)) for page, beginning in calls("shows")}

    for page in PAGES:
        for one in rows(page):
            assert (page, one) in caused, f"docs/{page}.md: no test causes: {one.seen}"


def test_tests_follow_the_advice_of_half_of_the_rows():
    followed = {(page, row(page, beginning)) for page, beginning in calls("advice")}

    assert len(followed) >= sum(len(rows(page)) for page in PAGES) / 2


# --- the lessons


class Lesson:
    """A clone on the branch of a lesson, with the sample data, but no logs and no site.sh."""

    def __init__(self, clone, python, sample_data):
        self.clone, self.folder, self.python = clone, clone.folder, python
        self.site, self.sample_data = self.folder / "site.sh", sample_data

    def begin(self, number):
        self.clone.git("checkout", "--quiet", ".")
        self.clone.git("switch", "--quiet", BRANCHES[number])
        self.clone.git("clean", "--quiet", "-d", "--force", "-x", ".")
        for name in ("MNIST", "cifar-10-batches-py"):
            shutil.copytree(self.sample_data / name, self.folder / "data" / name)

    def edit(self, old, new):
        """Edit src/main.py as a learner would."""
        program = self.folder / "src/main.py"
        text = program.read_text()
        assert text.count(old) == 1, old
        program.write_text(text.replace(old, new))

    def run(self, *words, before="", **env):
        """Run python, and return its exit code and all that it printed."""
        done = self.python.run(*words, cwd=self.folder, before=before, **env)
        return done.returncode, done.stdout + done.stderr

    def fails(self, *words, **kwargs):
        """Run python, which must fail without a traceback, and return what it printed."""
        code, log = self.run(*words, **kwargs)
        assert code != 0, log
        assert "Traceback" not in log
        return log

    def works(self, *words, **kwargs):
        code, log = self.run(*words, **kwargs)
        assert code == 0, log
        return log

    def shell(self, command, **env):
        """Run a command in bash, and return what it printed."""
        env = {name: value for name, value in {**self.clone.env, **env}.items() if value}
        return self.clone.run("bash", "-c", command, env=env, stderr=subprocess.STDOUT).stdout


@pytest.fixture(scope="module")
def lessons(module_clone, warm_python, sample_data):
    return Lesson(module_clone, warm_python, sample_data)


@pytest.fixture
def lesson(lessons, request):
    """Each test begins with the lesson that its parameter names."""
    lessons.begin(request.param)
    return lessons


def on_lesson(number):
    return pytest.mark.parametrize("lesson", [number], indirect=True, ids=[f"lesson {number}"])


def is_refused(printed):
    """Check that a command ended with one sentence."""
    assert printed.count("\n") == 1, printed
    return printed


# --- lessons 1 and 2: the environment, the data, the learning rate


@pytest.mark.slow
@on_lesson(1)
def test_lesson_1_without_an_environment_and_without_data(lesson):
    shutil.rmtree(lesson.folder / "data/MNIST")
    sample = advice("lessons/1", "data/MNIST is missing", "env/bin/python data/make_sample.py")
    lesson.edit("max_epochs=10", "max_epochs=1")

    no_environment = lesson.shell("bash run.sh", VENV="")
    lesson.site.write_text("export PYTHON='apptainer-9 exec image.sif python'\n")
    no_command = lesson.shell("bash run.sh")
    variable = advice("lessons/1", "No Python environment", "VENV")
    lesson.site.write_text(f"export {variable}={shlex.quote(sys.prefix)}\n")
    no_data = lesson.shell("bash run.sh")
    made = lesson.works(*sample.split()[1:])
    trained = lesson.works("-m", "src.main")

    shows("lessons/1", "No Python environment", is_refused(no_environment))
    shows("lessons/1", "PYTHON in site.sh", no_command)
    shows("lessons/1", "data/MNIST is missing", is_refused(no_data))
    assert "MNIST" in made
    assert len(epochs(trained)) == 1


@pytest.mark.slow
@on_lesson(1)
def test_a_command_that_does_not_run_python_can_be_corrected(lesson):
    advice("lessons/1", "PYTHON in site.sh", "correct the command")
    lesson.site.write_text(f"export PYTHON={shlex.quote(sys.executable)}\n")

    assert lesson.shell("source cluster/job_env.sh; $PYTHON -c 'print(42)'") == "42\n"


@pytest.mark.slow
@on_lesson(2)
def test_lesson_2_in_another_environment_and_beside_an_old_checkpoint(lesson, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    left = lesson.folder / "hpc_ckpt_1.ckpt"
    left.write_bytes(b"of an interrupted job")
    lesson.edit("max_epochs=10", "max_epochs=1")

    lesson.site.write_text(f"export VENV={tmp_path}/env\n")
    no_lightning = lesson.shell("bash run.sh")
    variable = advice("lessons/2", "ModuleNotFoundError", "VENV")
    lesson.site.write_text(f"export {variable}={shlex.quote(sys.prefix)}\n")
    left_over = lesson.shell("bash run.sh")
    advice("lessons/2", "<folder>/hpc_ckpt_1.ckpt", "delete the file")
    left.unlink()
    trained = lesson.works("-m", "src.main")

    shows("lessons/2", "ModuleNotFoundError", no_lightning)
    shows("lessons/2", "<folder>/hpc_ckpt_1.ckpt", left_over)
    assert len(epochs(trained)) == 1


@pytest.mark.slow
@on_lesson(2)
def test_lesson_2_diverges_until_the_learning_rate_is_lowered(lesson):
    lesson.edit("max_epochs=10", "max_epochs=2")
    lesson.edit("learning_rate=1e-3,\n    max", "learning_rate=1e20,\n    max")
    diverged = lesson.fails("-m", "src.main")
    advice("lessons/2", "the training has diverged", "lower `learning_rate` in `HPARAMS`")
    lesson.edit("learning_rate=1e20", "learning_rate=1e-3")
    trained = lesson.works("-m", "src.main")

    shows("lessons/2", "the training has diverged", diverged)
    assert len(epochs(trained)) == 2


# --- lesson 3: workers

LIMIT = "import resource; resource.setrlimit(resource.RLIMIT_{}, ({}, {}))\n"
# the signal arrives while the training process computes, or while it waits for a batch
KILL_A_WORKER = (
    "import multiprocessing, time; os.kill(multiprocessing.active_children()[0].pid, 9);"
    " time.sleep(5)"
)
END_A_WORKER = """
def end(*_):
    import time
    time.sleep(1)
    os.kill(os.getpid(), 9)

MNIST.__getitem__ = end
"""
# file systems that only this process and its children see
MOUNT = """
import ctypes, subprocess
CLONE_NEWNS = 0x20000
if ctypes.CDLL(None).unshare(CLONE_NEWNS) or any(
    subprocess.run(["mount", *words.split()]).returncode for words in COMMANDS
):
    sys.exit("may not mount")
"""


def mount(*commands):
    return MOUNT.replace("COMMANDS", repr(["--make-rprivate /", *commands]))


@pytest.fixture
def lesson_3(lessons):
    lessons.begin(3)
    lessons.edit("max_epochs=10", "max_epochs=1")
    return lessons


@pytest.mark.slow
def test_lesson_3_with_more_workers_than_cpus(lesson_3):
    one_cpu = "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    warned = lesson_3.works("-m", "src.main", before=one_cpu)
    advice("lessons/3", "This DataLoader will create", "lower `num_workers`")
    lesson_3.edit("num_workers=2", "num_workers=1")
    silent = lesson_3.works("-m", "src.main", before=one_cpu)

    shows("lessons/3", "This DataLoader will create", warned)
    assert "Warning" not in silent


@pytest.mark.slow
def test_lesson_3_with_a_worker_that_is_killed(lesson_3):
    step = "        images, labels = batch\n"
    lesson_3.edit(step, f"        {KILL_A_WORKER}\n{step}")
    _, during_a_step = lesson_3.run("-m", "src.main")
    lesson_3.clone.git("checkout", "--quiet", ".")
    lesson_3.edit("def make_loaders", f"{END_A_WORKER}\n\ndef make_loaders")
    _, while_it_waits = lesson_3.run("-m", "src.main")

    shows("lessons/3", "a data-loading worker was killed", during_a_step, while_it_waits)


@pytest.mark.slow
def test_lesson_3_with_too_little_shared_memory(lesson_3):
    small = mount("-t tmpfs -o size=256k tmpfs /dev/shm")
    code, log = lesson_3.run("-m", "src.main", before=small)
    if "may not mount" in log:
        pytest.skip("only root can mount a file system")
    advice("lessons/3", "the same sentence", "use fewer workers")
    lesson_3.edit("num_workers=2", "num_workers=0")
    trained = lesson_3.works("-m", "src.main", before=small)

    assert code == 1
    shows("lessons/3", "the same sentence", log)
    assert "a data-loading worker was killed: /dev/shm (0 MB free)" in is_refused(
        log[log.index("a data-") :]
    )
    assert len(epochs(trained)) == 1


@pytest.mark.slow
def test_lesson_3_with_few_open_files(lesson_3):
    few = lesson_3.fails("-m", "src.main", before=LIMIT.format("NOFILE", 100, 4096))
    command = advice("lessons/3", "a process may open only", "ulimit -n 1024")
    lesson_3.site.write_text(f"{command}\n")
    raised = lesson_3.shell("ulimit -S -n 100; source cluster/job_env.sh; ulimit -n")
    trained = lesson_3.works("-m", "src.main", before=LIMIT.format("NOFILE", int(raised), 4096))

    shows("lessons/3", "a process may open only", is_refused(few))
    assert len(epochs(trained)) == 1


@pytest.mark.slow
def test_lesson_3_without_a_folder_for_sockets(lesson_3):
    clone = lesson_3.folder
    long = clone / ("x" * 100)
    long.mkdir()
    writable = [f"--bind {folder} {folder}" for folder in (clone, lesson_3.python.folder)]
    read_only = mount("--bind /tmp /tmp", *writable, "-o remount,ro,bind /tmp")
    code, log = lesson_3.run("-m", "src.main", before=read_only, TMPDIR=str(long))
    if "may not mount" in log:
        pytest.skip("only root can mount a file system")
    variable = advice("lessons/3", "worker processes need a folder", "TMPDIR")
    short = {variable: str(lesson_3.python.folder)}
    trained = lesson_3.works("-m", "src.main", before=read_only, **short)

    assert code == 1
    shows("lessons/3", "worker processes need a folder", log)
    assert len(epochs(trained)) == 1


@pytest.mark.slow
def test_lesson_3_without_memory(lesson_3):
    used = "int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()"
    limit = f"{used} + 250 * 2**20"
    lesson_3.edit("nn.Linear(28 * 28, 128)", "nn.Linear(28 * 28, 100_000)")  # 300 MB of weights

    log = lesson_3.fails("-m", "src.main", before=LIMIT.format("AS", limit, -1))

    shows("lessons/3", "the job's memory is too small", log)


# --- lesson 4: launches


@pytest.mark.slow
@on_lesson(4)
def test_lesson_4_with_wrong_arguments(lesson):
    misspelt = lesson.fails("run.py", "--dry_run", "--max_epoch=3")
    advice("lessons/4", "run.py: unknown argument", "use the name in the message")
    name = re.search(r"did you mean (\S+)\?", misspelt)[1]
    spelt = lesson.works("run.py", "--dry_run", f"{name}=3")
    own = lesson.fails("run.py", "--dry_run", "--", "--time=20")
    advice("lessons/4", "run.py: --time is an option", "use the argument in the message")
    name = re.search(r"use (--\w+) instead", own)[1]
    limited = lesson.works("run.py", "--dry_run", f"{name}=20")

    shows("lessons/4", "run.py: unknown argument", is_refused(misspelt))
    shows("lessons/4", "run.py: --time is an option", is_refused(own))
    assert "--max_epochs=3" in spelt
    assert "#SBATCH --time=00:20:00\n" in limited


@pytest.mark.slow
@on_lesson(4)
def test_lesson_4_on_a_machine_without_sbatch(lesson, tmp_path):
    for tool in ("bash", "cat"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    (tmp_path / "sinfo").symlink_to(shutil.which("true"))

    refused = lesson.fails("run.py", *SHORT[1:], PATH=str(tmp_path))
    local = advice("lessons/4", "sbatch: command not found", "--local")
    trained = lesson.works("run.py", local, *SHORT[1:], PATH=str(tmp_path))

    shows("lessons/4", "sbatch: command not found", is_refused(refused))
    assert len(epochs(trained)) == 1


@pytest.mark.slow
@on_lesson(4)
def test_lesson_4_with_a_python_without_packages(lesson, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "other"], check=True)
    (lesson.folder / "env").symlink_to(sys.prefix)
    finds = "from importlib.util import find_spec as f; print(f('lightning') is not None)"

    refused = lesson.shell(f"source {tmp_path}/other/bin/activate; python run.py --local")
    command = advice("lessons/4", "a package is missing", "source env/bin/activate")
    found = lesson.shell(f'{command}; python -c "{finds}"')

    shows("lessons/4", "a package is missing", is_refused(refused))
    assert found == "True\n"


@pytest.mark.slow
@on_lesson(4)
def test_lesson_4_with_a_file_in_place_of_the_log_folder(lesson, tmp_path):
    login_node = FakeLoginNode(lesson.clone, tmp_path)
    (lesson.folder / "logs").write_text("keep me")

    refused = lesson.fails("run.py", **login_node.env)
    name = advice("lessons/4", "cannot create a folder", "--log_path")
    launched = lesson.works("run.py", f"{name}=other", **login_node.env)

    shows("lessons/4", "cannot create a folder", is_refused(refused))
    assert "-> other/mnist (version_0)" in launched


# --- lessons 5 to 8


@pytest.mark.slow
@on_lesson(5)
def test_lesson_5_with_an_optimizer_that_is_not_in_the_list(lesson):
    refused = lesson.fails("run.py", "--dry_run", "--optimizer=AdamX")
    advice("lessons/5", "run.py: argument --optimizer", "choose from the list")
    names = re.findall(r"'(\w+)'", refused.split("choose from")[1].split(")")[0])

    shows("lessons/5", "run.py: argument --optimizer", is_refused(refused))
    for name in names:
        assert f"--optimizer={name}" in lesson.works("run.py", "--dry_run", f"--optimizer={name}")


@pytest.mark.slow
@on_lesson(5)
def test_lesson_5_with_a_huge_learning_rate(lesson):
    wild = lesson.works("run.py", *SHORT, "--learning_rate=1000")
    lower = advice("lessons/5", "a huge loss", "--learning_rate")
    tame = lesson.works("run.py", *SHORT, f"{lower}=0.001")

    shows("lessons/5", "a huge loss", wild)
    [(loss, accuracy, *_)] = epochs(wild)
    assert loss > 1e6
    assert accuracy == pytest.approx(0.10, abs=0.03)
    assert epochs(tame)[0][1] > 0.5


@pytest.mark.slow
@on_lesson(6)
def test_lesson_6_without_data(lesson):
    shutil.rmtree(lesson.folder / "data/cifar-10-batches-py")
    missing = lesson.fails("run.py", "--local")
    advice("lessons/6", "data/cifar-10-batches-py is missing", "generate the sample")
    lesson.works("data/make_sample.py")
    trained = lesson.works("run.py", *SHORT)

    shows("lessons/6", "data/cifar-10-batches-py is missing", missing)
    assert len(epochs(trained)) == 1


@pytest.mark.slow
@on_lesson(6)
def test_lesson_6_with_damaged_and_with_hostile_data(lesson, tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    shutil.copytree(lesson.folder / "data/cifar-10-batches-py", folder)
    batch, sums = folder / "data_batch_3", folder / "SHA256SUMS"
    whole = batch.read_bytes()

    batch.write_bytes(whole[:-1])
    damaged = lesson.fails("run.py", "--local", f"--data_dir={tmp_path}")
    batch.write_bytes(pickle.dumps({"data": Hostile(), "labels": []}))
    new = hashlib.sha256(batch.read_bytes()).hexdigest()
    sums.write_text(re.sub(r"\w{64}(?=  data_batch_3$)", new, sums.read_text(), flags=re.M))
    hostile = lesson.fails("run.py", "--local", f"--data_dir={tmp_path}")

    shows("lessons/6", "... data_batch_3 is damaged", damaged)
    shows("lessons/6", "... is not a batch of CIFAR-10", hostile)
    assert not list(lesson.folder.rglob("PWNED"))


@pytest.mark.slow
@on_lesson(6)
def test_lesson_6_with_a_data_set_that_does_not_exist(lesson):
    refused = lesson.fails("run.py", "--dry_run", "--dataset=photos")
    command = advice("lessons/6", "argument --dataset", "python run.py --help")
    listed = lesson.works(*command.split()[1:])
    [name, *_] = re.search(r"--dataset \{(.*?)\}", listed)[1].split(",")

    shows("lessons/6", "argument --dataset", is_refused(refused))
    assert f"--dataset={name}" in lesson.works("run.py", "--dry_run", f"--dataset={name}")


@pytest.mark.slow
@on_lesson(7)
def test_lesson_7_without_pretrained_weights(lesson, tmp_path):
    missing = lesson.fails("run.py", "--local", "--weights=DEFAULT", TORCH_HOME=str(tmp_path))
    arguments = ["--arch=fully_connected", "--fast_dev_run=1"]
    none = lesson.fails("run.py", "--local", "--weights=DEFAULT", *arguments)
    advice("lessons/7", "--weights DEFAULT needs a ResNet", "omit `--weights`")

    shows("lessons/7", "--weights DEFAULT: ... is missing", missing)
    shows("lessons/7", "--weights DEFAULT needs a ResNet", is_refused(none))
    lesson.works("run.py", "--local", *arguments)


@pytest.mark.slow
@on_lesson(7)
def test_lesson_7_with_a_switch_that_is_still_on(lesson):
    arguments = [*SHORT, "--arch=fully_connected", "--dataset=mnist"]
    switched = lesson.works("run.py", *arguments, "--limit_train_batches=1")
    advice("lessons/7", "WARNING not a full training", "remove it")
    full = lesson.works("run.py", *arguments)

    shows("lessons/7", "WARNING not a full training", switched)
    assert epochs(switched)[0][3] < 0.5 < epochs(full)[0][3]
    assert "WARNING" not in full


@pytest.mark.slow
@on_lesson(8)
def test_lesson_8_with_a_batch_that_cannot_be_divided(lesson):
    refused = lesson.fails("run.py", "--dry_run", "--batch_size=256", "--devices=3")
    advice("lessons/8", "--batch_size 256", "use one of these sizes")

    shows("lessons/8", "--batch_size 256", is_refused(refused))
    for size in re.search(
        r"try (\d+) or (\d+)", row("lessons/8", "--batch_size 256").seen
    ).groups():
        lesson.works("run.py", "--dry_run", f"--batch_size={size}", "--devices=3")


@pytest.mark.slow
@on_lesson(8)
def test_lesson_8_without_a_gpu(lesson):
    short = ["--local", "--fast_dev_run=1", "--arch=fully_connected"]
    refused = lesson.fails("run.py", *short, "--accelerator=gpu", CUDA_VISIBLE_DEVICES="")
    other = advice("lessons/8", "--accelerator gpu", "--accelerator=cpu")
    trained = lesson.works("run.py", *short, other, CUDA_VISIBLE_DEVICES="")

    shows("lessons/8", "--accelerator gpu", refused)
    assert "epoch  1/1" in trained


# --- lesson 10: settings


def experiment(lesson, text):
    (lesson.folder / "configs/experiment/mine.yaml").write_text(text)


@pytest.mark.slow
@on_lesson(10)
def test_lesson_10_with_a_setting_outside_its_section(lesson):
    given = lesson.fails("run.py", "--dry-run", "max_epochs=3")
    experiment(lesson, "# @package _global_\ntrainer:\nmax_epochs: 3\n")
    in_file = lesson.fails("run.py", "--dry-run", "experiment=mine")
    advice("lessons/10", "... max_epochs is not", "use the name in the message")
    name = re.search(r"did you mean (\S+)\?", given)[1]
    right = lesson.works("run.py", "--print-config", f"{name}=3")

    shows("lessons/10", "... max_epochs is not", is_refused(given))
    shows("lessons/10", "... max_epochs is not", in_file)
    assert "configs/experiment/mine.yaml:3: " in in_file
    assert re.search(r"  max_epochs: 3 +# command line\n", right)


@pytest.mark.slow
@on_lesson(10)
def test_lesson_10_with_an_argument_of_lesson_9(lesson):
    refused = lesson.fails("run.py", "--dry-run", "--max_epochs=3")
    setting = advice("lessons/10", "run.py: unknown option", "trainer.max_epochs=3")

    shows("lessons/10", "run.py: unknown option", is_refused(refused))
    assert "max_epochs: 3 " in lesson.works("run.py", "--print-config", setting)


@pytest.mark.slow
@on_lesson(10)
def test_lesson_10_with_an_experiment_without_its_first_line(lesson):
    text = "defaults:\n  - override /data: mnist\n"
    experiment(lesson, text)
    refused = lesson.fails("run.py", "--dry-run", "experiment=mine")
    line = advice("lessons/10", "... the first line of an", "# @package _global_")
    experiment(lesson, f"{line}\n{text}")
    composed = lesson.works("run.py", "--print-config", "experiment=mine")

    shows("lessons/10", "... the first line of an", is_refused(refused))
    assert "_target_: src.datasets.mnist.MNISTDataModule" in composed


@pytest.mark.slow
@on_lesson(10)
def test_lesson_10_with_a_class_of_a_package_that_is_not_trusted(lesson):
    words = ["run.py", "--dry-run", "callbacks.own._target_=json.JSONDecoder"]
    refused = lesson.fails(*words)
    setting = advice("lessons/10", "... is not in a trusted package", "trusted")
    accepted = lesson.works(*words, f"{setting}=[json]")

    shows("lessons/10", "... is not in a trusted package", is_refused(refused))
    assert "#SBATCH" in accepted


@pytest.mark.slow
@on_lesson(10)
def test_lesson_10_with_a_list_on_this_machine(lesson):
    refused = lesson.fails("run.py", "--local", "seed=1,2")
    advice("lessons/10", "these lists describe 2 runs", "give one value of each")
    listed = lesson.works("run.py", "--dry-run", "seed=1,2")

    shows("lessons/10", "these lists describe 2 runs", is_refused(refused))
    assert "# run 2: logs/cifar10/version_N-seed_2\n" in listed
    assert not (lesson.folder / "logs").exists()
