"""The arguments of run.py: groups, spelling, units, and sbatch's own options: make test-fast."""

import argparse
import re
import shutil
import sys

import pytest
import yaml

import run as run_py
from clone import ROOT, Clone
from programs import LESSON_9
from src.launch.argument_types import minutes
from src.launch.layout import gpus_per_node
from src.launch.parser import Parser
from src.launch.sbatch_options import sbatch_options
from src.utils import registry
from src.utils.errors import UserError

KNOWN = ["--num_nodes", "--mem_gb", "--time_min", "--experiment_name", "--dry_run"]


class Program:
    """The program of lesson 9, called in this process, since its imports take seconds.

    It uses a copy of the networks and data sets, to which a test may add files.
    """

    def __init__(self, folder, monkeypatch, capsys):
        self.folder, self.monkeypatch, self.capsys = folder, monkeypatch, capsys
        for name in ("networks", "datasets"):
            shutil.copytree(LESSON_9 / "src" / name, folder / "src" / name)
        monkeypatch.setattr(registry, "SRC", folder / "src")
        monkeypatch.chdir(LESSON_9)

    def run(self, *args):
        """Call run.py; return its exit code, what it printed, and its error message."""
        self.monkeypatch.setattr(sys, "argv", ["run.py", *args])
        code, error = 0, ""
        try:
            run_py.main()
        except SystemExit as end:
            code = end.code
        except UserError as user_error:
            code, error = 1, f"{user_error}\n"
        printed = self.capsys.readouterr()
        return code, printed.out, printed.err + error


@pytest.fixture
def program(tmp_path, monkeypatch, capsys):
    return Program(tmp_path, monkeypatch, capsys)


def run(program, *args):
    code, out, error = program.run(*args)
    assert code == 0, error
    return out


def refused(program, *args, code=2):
    found, out, error = program.run("--dry-run", *args)
    assert found == code, out + error
    assert error.count("\n") == 1
    return error


# --- times


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("90", 90), ("1", 1), ("10:30", 11), ("1:30:00", 90), ("00:00:01", 1)),
        *(("1-0", 1440), ("1-12", 2160), ("1-12:30", 2190), ("2-00:00:30", 2881)),
    ],
)
def test_a_time_takes_the_formats_of_slurm(text, expected):
    assert minutes(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("0", "", "soon", "1:2:3:4", "-5", "1-", "1.5", "nan", "1-2-3", "0:00", "0-0"),
        # Slurm counts seconds in 32 bits, which these would overflow
        *("35791395", "71582820", "30000-0", "999999999", "9" * 30),
    ],
)
def test_an_invalid_time_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match=re.escape(repr(text))):
        minutes(text)


def test_the_longest_time_that_slurm_can_count_is_accepted():
    assert minutes("35791394") == 35791394


def test_a_time_in_days_reaches_the_script(program):
    assert "#SBATCH --time=36:30:00\n" in run(program, "--dry-run", "--time_min=1-12:30:00")


# --- sbatch's own options


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--constraint=a100"], ["--constraint=a100"]),
        (["--constraint", "a100", "-p", "gpu"], ["--constraint=a100", "-p gpu"]),
        (["--exclusive", "user"], ["--exclusive=user"]),
        (["--qos", ""], ['--qos=""']),
        (["-HOp", "gpu"], ["-HOp gpu"]),
        (["--exclude=n[1-3]", "--exclusive"], ["--exclude=n[1-3]", "--exclusive"]),
        (["--wckey=two words"], ['--wckey="two words"']),
        (["--wckey", "a # b"], ['--wckey="a # b"']),
        (["--time-min=5", "--nodelist=n1"], ["--time-min=5", "--nodelist=n1"]),
        ([], []),
    ],
)
def test_words_after_two_dashes_become_sbatch_options(words, expected):
    assert sbatch_options(words, KNOWN) == expected


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--nodes=3"], "--nodes is an option that run.py sets itself: use --num_nodes instead"),
        (["-N3"], "-N is an option that run.py sets itself: use --num_nodes instead"),
        (["-N", "3"], "use --num_nodes instead"),
        (["-HN2"], "-N is an option that run.py sets itself: use --num_nodes instead"),
        (["--"], "'--' after -- is not an sbatch option"),
        (["-"], "'-' after -- is not an sbatch option"),
        (["--node=3"], "--node is an option that run.py sets itself"),
        (["--mem=3G"], "use --mem_gb instead"),
        (["--mem-per-cpu=3G"], "use --mem_gb instead"),
        (["--time=5"], "use --time_min instead"),
        (["-t5"], "use --time_min instead"),
        (["--job-name=x"], "use --experiment_name instead"),
        (["--output=x"], "--output is an option that run.py sets itself: remove it"),
        (["--wrap=x"], "remove it"),
        (["--wait"], "remove it"),
        (["--parsable"], "remove it"),
        (["--array=1-3"], "remove it"),
        (["a100"], "'a100' after -- is not an sbatch option: options begin with a dash"),
        (["--wckey=a\n#SBATCH --nodes=9"], "cannot be in an #SBATCH line"),
        (['--wckey="'], "cannot be in an #SBATCH line"),
        (["--wckey=a\\"], "cannot be in an #SBATCH line"),
        (["--wckey=\0"], "cannot be in an #SBATCH line"),
    ],
)
def test_options_that_run_py_sets_or_that_break_the_script_are_refused(words, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        sbatch_options(words, KNOWN)


def test_sbatch_options_reach_the_script_but_not_the_training(program):
    script = run(program, "--dry-run", "--email=a@b.c", "--", "--constraint=a100", "--exclusive")

    lines = script.splitlines()
    start = lines.index("# more sbatch options")
    assert lines[start + 1 : start + 5] == [
        *("#SBATCH --constraint=a100", "#SBATCH --exclusive"),
        *("#SBATCH --mail-type=END,FAIL", "#SBATCH --mail-user=a@b.c"),
    ]
    assert script.count("a100") == script.count("a@b.c") == 1


def test_an_option_that_run_py_sets_is_a_usage_error(program):
    sentence = refused(program, "--", "--nodes=2")

    assert "--nodes is an option that run.py sets itself: use --num_nodes instead" in sentence


def test_a_script_without_options_has_no_empty_group(program):
    assert "more sbatch options" not in run(program, "--dry-run")


# --- names


def test_dashes_and_underscores_are_equivalent(program):
    with_dashes = run(program, "--dry-run", "--num-nodes=2", "--max-epochs", "3", "--mem-gb=0")
    with_underscores = run(program, "--dry_run", "--num_nodes=2", "--max_epochs", "3", "--mem_gb=0")

    assert with_dashes == with_underscores
    assert "--num_nodes=2" in with_dashes and "--max_epochs=3" in with_dashes


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("--max_epoch=3", "unknown argument --max_epoch; did you mean --max_epochs?\n"),
        ("--Batch-Size=3", "unknown argument --Batch-Size; did you mean --batch_size?\n"),
        ("--xyzzy", "unknown argument --xyzzy; see python run.py --help\n"),
        ("--arch=resnet81", "(choose from "),
        ("--arch=resnet81", "; did you mean 'resnet18'?; see python run.py --help\n"),
        ("--optimizer=adam", "; did you mean 'Adam'?; see python run.py --help\n"),
    ],
)
def test_an_unknown_name_gets_the_nearest_known_suggestion(program, word, sentence):
    assert sentence in refused(program, word)


def test_no_memory_line_is_written_for_sites_that_refuse_it(program):
    assert "--mem=" not in run(program, "--dry-run", "--mem_gb=0")
    assert "#SBATCH --mem=4096M\n" in run(program, "--dry-run")
    assert "#SBATCH --mem=8192M\n" in run(program, "--dry-run", "--devices=2")


def test_the_help_has_groups_units_defaults_and_an_example(program):
    text = run(program, "--help")

    groups = re.findall(r"^([a-z]+):$", text, re.MULTILINE)
    assert groups == [
        *("options", "logs", "data", "network", "training", "distributed", "debugging"),
        *("interruption", "job"),
    ]
    assert "Example: python run.py --" in text
    words = " ".join(text.split())
    assert "images per optimizer step, over all processes of all nodes (default: 64)" in words
    assert "memory per node in GB" in words
    assert "number of data-loading worker processes per node (default: 0)" in words
    for hidden in ("None", "run_number", "bolts", "hpc_exp"):
        assert hidden not in text


# --- one declaration


ARGUMENT = """    parser.add_argument(
        "--warmup_steps",
        type=number(int, 0),
        default=5,
        help="number of steps with a smaller learning rate",
    )
"""


@pytest.fixture
def copy(course, sample_data, tmp_path):
    """A copy of lesson 9 that a test may edit."""
    folder = shutil.copytree(LESSON_9, tmp_path / "copy")
    return Clone(folder, {**course.env, "DATA_DIR": str(sample_data)})


def declare(copy, begin_group):
    """Add an argument to a group, and return a function that runs the new run.py."""
    file = copy.folder / "src/launch/arguments.py"
    file.write_text(file.read_text().replace(begin_group, begin_group + ARGUMENT))

    def called(*args):
        done = copy.run(sys.executable, "run.py", *args)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return called


@pytest.mark.slow
def test_an_argument_is_added_in_one_place(copy):
    called = declare(copy, '    parser.begin_group("training")\n')

    assert "--warmup_steps N  " in called("--help")
    assert "    --warmup_steps=7 \\\n" in called("--dry-run", "--warmup-steps=7")
    called("--local", "--arch=fully_connected", "--max_epochs=1", "--warmup_steps=7")

    [folder] = copy.folder.glob("logs/cifar10/version_*")
    assert yaml.safe_load((folder / "hparams.yaml").read_text())["warmup_steps"] == 7
    reader = (
        "import sys, torch; checkpoint = torch.load(sys.argv[1], weights_only=True)\n"
        "print(checkpoint['hyper_parameters']['warmup_steps'])"
    )
    [checkpoint] = folder.glob("checkpoints/best.ckpt")
    assert copy.run(sys.executable, "-c", reader, str(checkpoint)).stdout == "7\n"


@pytest.mark.slow
def test_an_argument_of_the_job_does_not_reach_the_training(copy):
    called = declare(copy, '    parser.begin_group("job", launch_only=True)\n')

    assert "warmup_steps" in called("--help")
    assert "warmup_steps" not in called("--dry-run", "--warmup_steps=7")


NETWORK = '''"""A small network."""

from torch import nn

ARGUMENTS = {"width": {"default": 32, "help": "number of features in the middle"}}


class Small(nn.Sequential):
    def __init__(self, dims, num_classes, width):
        super().__init__(nn.Flatten(), nn.LazyLinear(width), nn.LazyLinear(num_classes))
'''


def test_a_network_offers_its_own_arguments(program):
    (program.folder / "src/networks/small.py").write_text(NETWORK)

    text = run(program, "--arch=small", "--help")
    assert "only for --arch=small:\n  --width N " in text
    assert "number of features in the middle (default: 32)" in text
    assert "    --width=64 \\\n" in run(program, "--dry-run", "--arch", "small", "--width=64")
    assert "    --width=32 \\\n" in run(program, "--dry-run", "--arch=small")
    assert "--width" not in run(program, "--dry-run")
    assert "unknown argument --width" in refused(program, "--width=64")
    assert "'wide' is not a whole number" in refused(program, "--arch=small", "--width=wide")


def test_a_network_can_have_its_own_switch(program):
    text = NETWORK.replace('"default": 32', '"default": False').replace("width", "bias")
    (program.folder / "src/networks/small.py").write_text(text)

    assert "    --bias \\\n" in run(program, "--dry-run", "--arch=small", "--bias")
    assert "    --no-bias \\\n" in run(program, "--dry-run", "--arch=small")
    assert "    --no-bias \\\n" in run(program, "--dry-run", "--arch=small", "--no-bias")


def test_a_network_argument_that_run_py_already_has_is_refused(program):
    (program.folder / "src/networks/small.py").write_text(NETWORK.replace("width", "seed"))

    sentence = refused(program, "--arch=small", code=1)

    taken = "run.py already has an argument --seed; rename it\n"
    assert sentence == f"ARGUMENTS of --arch=small: {taken}"


@pytest.mark.parametrize(
    ("constant", "sentence"),
    [
        ("ARGUMENTS = 3", "ARGUMENTS in src/networks/small.py must look like"),
        ('ARGUMENTS = {"w": 3}', "'w' in ARGUMENTS of src/networks/small.py must have a default"),
        ('ARGUMENTS = {"w": {}}', "'w' in ARGUMENTS of src/networks/small.py must have a default"),
        ('ARGUMENTS = {"w": {"default": 1, "hlp": ""}}', "may have help and choices"),
        ('ARGUMENTS = {"w": {"default": 1, "dest": "seed"}}', "may have help and choices"),
        ('ARGUMENTS = {"w": {"default": 1, "help": 3}}', "may have help and choices"),
        ('ARGUMENTS = {"w": {"default": 1, "choices": 3}}', "may have help and choices"),
        ('ARGUMENTS = {"a-b": {"default": 1}}', "'a-b' in ARGUMENTS of src/networks/small.py"),
        ('ARGUMENTS = {"": {"default": 1}}', "'' in ARGUMENTS of src/networks/small.py"),
        ('ARGUMENTS = {"w": {"default": [1]}}', "must be a number, a string, True or False"),
        ('ARGUMENTS = {"w": {"default": None}}', "must be a number, a string, True or False"),
        ("ARGUMENTS = {[1]: 2}", "ARGUMENTS in src/networks/small.py must be a literal"),
        ("NAMES = 3", "NAMES in src/networks/small.py must be a list of names"),
        ('NAMES = "abc"', "NAMES in src/networks/small.py must be a list of names"),
        ('NAMES = [["a"]]', "NAMES in src/networks/small.py must be a list of names"),
        ("NEEDS = 3", "NEEDS in src/networks/small.py must be the name of a package"),
        ('NEEDS = "a.b"', "NEEDS in src/networks/small.py must be the name of a package"),
        ('NEEDS = ""', "NEEDS in src/networks/small.py must be the name of a package"),
    ],
)
def test_an_invalid_declaration_is_refused_in_one_sentence(program, constant, sentence):
    (program.folder / "src/networks/small.py").write_text(f"{constant}\n")

    assert sentence in refused(program, "--arch=small", code=1)


def test_a_percent_sign_in_a_help_text_is_shown(program):
    text = NETWORK.replace("number of features", "50% of the features")
    (program.folder / "src/networks/small.py").write_text(text)

    assert "50% of the features in the middle" in run(program, "--arch=small", "--help")


def test_a_folder_or_a_broken_link_among_the_networks_is_not_offered(program):
    (program.folder / "src/networks/zz.py").mkdir()
    (program.folder / "src/networks/dead.py").symlink_to("/nowhere")

    text = run(program, "--help")

    assert "zz" not in text and "dead" not in text


@pytest.mark.parametrize(
    "argument", ["--learning_rate=0.001", "--learning-rate", "--learning_rate"]
)
def test_a_learning_rate_with_trials_is_refused_even_if_it_is_the_default(program, argument):
    value = [] if "=" in argument else ["0.001"]

    sentence = refused(program, "--nb_trials=2", argument, *value)

    assert "--nb_trials takes the learning rates from a list: remove --learning_rate" in sentence


@pytest.mark.parametrize("path", ["memory://logs", "s3://bucket/logs", "zip::logs"])
def test_a_url_is_not_a_path(program, path):
    assert "(URLs are not allowed)" in refused(program, f"--log_path={path}")


# --- GPUs of the site


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Return a function that writes site.sh, next to the script that reads it."""
    (tmp_path / "cluster").mkdir()
    shutil.copy(ROOT / "cluster/site_env.sh", tmp_path / "cluster")
    monkeypatch.chdir(tmp_path)
    return (tmp_path / "site.sh").write_text


@pytest.mark.parametrize("gres", ["gpu", "gpu:a100", "gpu:3g.20gb", "gpu:a100-sxm4-40gb", "mps"])
def test_the_site_names_its_gpus(site, gres):
    site(f"export GRES={gres}\necho hello\n")

    assert gpus_per_node(2) == f"{gres}:2"


@pytest.mark.parametrize("gres", ["gpu a100", "gpu:2", "gpu:a100:4", "gpu:", "4", ";rm"])
def test_an_invalid_gpu_name_is_refused_in_one_sentence(site, gres):
    site(f"export GRES='{gres}'\n")

    with pytest.raises(UserError, match=re.escape(f"GRES in site.sh is {gres!r}: it must be a")):
        gpus_per_node(1)


def test_an_unreadable_site_file_is_not_reported_as_a_gpu_error(site):
    site("if\n")

    with pytest.raises(UserError, match=r"^not submitted: .*syntax error"):
        gpus_per_node(1)


@pytest.mark.parametrize("line", ["[ -d /x ] && export X=1", "false", "printf 'Gr\\xfcsse'"])
def test_what_a_login_shell_ignores_does_not_hide_the_gpus(site, line):
    site(f"export GRES=gpu:a100\n{line}\n")

    assert gpus_per_node(2) == "gpu:a100:2"


def test_gpus_reach_the_script(program):
    script = run(program, "--dry-run", "--accelerator=gpu", "--devices=2")

    assert "#SBATCH --gres=gpu:2\n" in script


def test_an_argument_may_have_any_type_of_argparse():
    parser = Parser()
    parser.begin_group("own")

    parser.add_argument("--keep_every", type=int, default=0)

    assert parser.parse_args(["--keep_every=2"]).keep_every == 2


@pytest.mark.parametrize(("max_epochs", "finished"), [(2, True), (3, True), (4, False)])
def test_a_finished_run_is_neither_submitted_nor_trained_again(
    tmp_path, capsys, max_epochs, finished
):
    folder = tmp_path / "keep/version_7"
    folder.mkdir(parents=True)
    (folder / "DONE.json").write_text('{"epochs": 3}')
    names = {"log_path": str(tmp_path), "experiment_name": "keep", "max_epochs": max_epochs}

    assert run_py.has_finished(argparse.Namespace(**names, run_number=7)) is finished
    assert ("is finished, see" in capsys.readouterr().out) is finished
    assert not run_py.has_finished(argparse.Namespace(**names, run_number=None))
