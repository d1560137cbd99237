"""The arguments of run.py, each declared once; its group decides whether the job gets it."""

import argparse
import sys
from itertools import pairwise

from src.launch.argument_types import MANY, batches, email, experiment, minutes, number, path
from src.launch.layout import batch_size_per_process
from src.launch.parser import Parser
from src.launch.resume import continued, words_of_run
from src.utils.errors import UserError
from src.utils.registry import names, own_arguments, source
from src.utils.stop_signal import NAMES

DEFAULT_ARCH = "resnet18"


def parse_args():
    """Return the parser and the checked arguments of the command line."""
    parser = Parser(
        description="Train an image classifier, in a Slurm job or on a machine without Slurm.",
        epilog="Example: python run.py --arch=resnet34 --num_nodes=2 --time_min=30 -- --qos=long",
    )
    add_log_arguments(parser)
    add_data_arguments(parser)
    add_network_arguments(parser)
    add_training_arguments(parser)
    add_optimizer_arguments(parser)
    add_distributed_arguments(parser)
    add_synchronization_arguments(parser)
    add_debugging_arguments(parser)
    add_interruption_arguments(parser)
    add_job_arguments(parser)
    words = sys.argv[1:]
    folder = chosen(words, "--resume", None)
    of_run = [] if folder is None else words_of_run(parser, folder)
    add_own_arguments(parser, chosen([*of_run, *words], "--arch", DEFAULT_ARCH))
    hparams = parser.parse_args() if folder is None else continued(parser, folder, of_run, words)
    check_arguments(parser, hparams)
    hparams.experiment_name = hparams.experiment_name or hparams.dataset
    return parser, hparams


def add_log_arguments(parser):
    parser.begin_group("logs")
    parser.add_argument(
        "--experiment_name",
        type=experiment,
        help="name of the experiment and of its folder (default: name of the data set)",
    )
    parser.add_argument(
        "--log_path",
        type=path,
        default="logs",
        help="folder that contains the experiments; if given, relative to the current folder",
    )
    parser.add_argument(
        "--plots",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="draw pictures for TensorBoard",
    )
    # N of the run's folder version_N; the generated script passes it
    parser.add_argument("--run_number", type=number(int, 0), help=argparse.SUPPRESS)


def add_data_arguments(parser):
    parser.begin_group("data")
    parser.add_argument(
        "--dataset",
        choices=names("datasets"),
        default="cifar10",
        help="data set: a file in src/datasets",
    )
    # no default, so that the job uses the DATA_DIR of site.sh
    parser.add_argument(
        "--data_dir",
        type=path,
        help="folder that contains the data sets; if given, relative to the current folder"
        " (default: DATA_DIR, or data)",
    )
    parser.add_argument(
        "--num_workers",
        type=number(int, 0, 256),
        default=0,
        help="number of data-loading worker processes per node",
    )


def add_network_arguments(parser):
    parser.begin_group("network")
    parser.add_argument(
        "--arch",
        choices=names("networks"),
        default=DEFAULT_ARCH,
        help="network: a torchvision ResNet, or a file in src/networks",
    )
    parser.add_argument(
        "--weights",
        choices=["none", "DEFAULT"],
        default="none",
        help="initial weights: random, or pretrained on ImageNet (ResNets only)",
    )


def add_own_arguments(parser, arch):
    """Declare the arguments that the file of a network lists in ARGUMENTS."""
    parser.begin_group(f"only for --arch={arch}", collect_as="network_args")
    for name, keywords in own_arguments("networks", arch).items():
        if name in parser.group_of or name == "help":
            taken = f"run.py already has an argument --{name}"
            raise UserError(f"ARGUMENTS of --arch={arch}: {taken}; rename it")
        keywords["help"] = keywords.get("help", "").replace("%", "%%")
        kind = type(keywords["default"])
        if kind is bool:
            keywords["action"] = argparse.BooleanOptionalAction
        elif kind in (int, float):
            keywords["type"] = number(kind, -MANY)
        parser.add_argument(f"--{name}", **keywords)


def chosen(words, name, default):
    """Return the last value of an argument on the command line, before it is parsed."""
    found = default
    for word, following in pairwise([*words, default]):
        if word == name:
            found = following
        elif word.startswith(f"{name}="):
            found = word.partition("=")[2]
    return found


def add_training_arguments(parser):
    parser.begin_group("training")
    parser.add_argument(
        "--batch_size",
        type=number(int, 1),
        default=64,
        help="images per optimizer step, over all processes of all nodes",
    )
    parser.add_argument(
        "--max_epochs",
        type=number(int, 1),
        default=10,
        help="number of passes over the training set",
    )
    parser.add_argument(
        "--seed",
        type=number(int, 0, 2**32 - 1),
        default=1234,
        help="random seed: data split, shuffling, initial weights",
    )


def add_optimizer_arguments(parser):
    parser.opt_list(
        "--learning_rate",
        type=number(float, 1e-12, 1e3),
        default=1e-3,
        options=[1e-3, 3e-3, 3e-4, 1e-2, 1e-4],
        help="learning rate of the optimizer; with --nb_trials, a different one per trial",
    )
    parser.add_argument(
        "--optimizer",
        choices=["Adam", "AdamW", "SGD"],
        default="Adam",
        help="optimizer, a class of torch.optim",
    )
    parser.add_argument(
        "--criterion",
        choices=["cross_entropy", "multi_margin_loss"],
        default="cross_entropy",
        help="loss, a function of torch.nn.functional",
    )


def add_distributed_arguments(parser):
    parser.begin_group("distributed")
    parser.add_argument(
        "--num_nodes",
        type=number(int, 1),
        default=1,
        help="number of nodes of the job",
    )
    parser.add_argument(
        "--devices",
        type=number(int, 1),
        default=1,
        help="number of processes per node; on GPUs, one GPU per process",
    )
    parser.add_argument(
        "--accelerator",
        choices=["auto", "gpu", "cpu"],
        default="auto",
        help="gpu requests GPUs from Slurm; auto uses GPUs if the job has any",
    )
    parser.add_argument(
        "--precision",
        choices=["auto", "32-true", "16-mixed", "bf16-mixed"],
        default="auto",
        help="floating-point precision; auto is 16-mixed on GPUs, 32-true on CPUs",
    )


def add_synchronization_arguments(parser):
    parser.add_argument(
        "--sync_batchnorm",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="compute batch norm over all processes, not in each one; GPUs only",
    )
    parser.add_argument(
        "--find_unused_parameters",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="allow weights that take no part in the loss, in some steps or all; slower",
    )
    parser.add_argument(
        "--timeout_min",
        type=number(int, 1, 10080),
        default=10,  # Slurm notices a lost node earlier, and starts the job again
        help="number of minutes that a process waits for the others before it gives up",
    )


def add_debugging_arguments(parser):
    # no defaults here: Lightning's Trainer has its own
    parser.begin_group(
        "debugging",
        "switches of Lightning's Trainer",
        collect_as="debugging",
    )
    for part, stage in (("train", "training"), ("val", "validation")):
        parser.add_argument(
            f"--limit_{part}_batches",
            type=batches(1),
            help=f"number (such as 10) or fraction (such as 0.1) of {stage} batches per epoch",
        )
    parser.add_argument(
        "--fast_dev_run",
        type=batches(0, shares=False),
        help="number of batches to run per stage, without curves or checkpoints",
    )
    parser.add_argument(
        "--overfit_batches",
        type=batches(0),
        help="number or fraction of batches to overfit; with --max_epochs 40, the loss should"
        " approach 0",
    )


def add_interruption_arguments(parser):
    parser.begin_group("interruption")
    parser.add_argument(
        "--checkpoint_min",
        type=number(float, 0.001, 10080),
        default=5,
        help="minutes between two checkpoints within an epoch; each epoch ends with one, too",
    )
    parser.add_argument(
        "--signal",
        choices=NAMES,
        default=NAMES[0],
        help="signal that Slurm sends before the time limit",
    )
    parser.add_argument(
        "--max_requeues",
        type=number(int, 0, 1000),
        default=20,
        help="how often a job may start again; after that, it fails",
    )


def add_job_arguments(parser):
    parser.begin_group("job", launch_only=True)
    parser.add_argument(
        "--resume",
        metavar="FOLDER",
        help="continue the run in this folder, such as logs/cifar10/version_0, with its settings",
    )
    parser.add_argument(
        "--time_min",
        type=minutes,
        default=60,
        help="time limit, in minutes or as days-hours:minutes:seconds",
    )
    parser.add_argument(
        "--mem_gb",
        type=number(int, 0),
        help="memory per node in GB; 0 means the site's default (default: 4 per process)",
    )
    parser.add_argument(
        "--nb_trials",
        type=number(int, 1, 5),
        default=1,
        help="number of trials, each a job with its own learning rate",
    )
    parser.add_argument(
        "--email",
        type=email,
        help="address that Slurm notifies when the job ends or fails",
    )
    parser.add_argument(
        "--local",
        action=argparse.BooleanOptionalAction,
        help="train on this machine (default if it has no Slurm)",
    )
    parser.add_argument(
        "--dry_run",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="print the batch script without submitting it",
    )


def check_arguments(parser, hparams):
    """Refuse conflicting arguments."""
    if hparams.nb_trials > 1 and parser.was_given("--learning_rate"):
        parser.error("--nb_trials takes the learning rates from a list: remove --learning_rate")
    if hparams.weights == "DEFAULT" and source("networks", hparams.arch).stem != "resnet":
        parser.error(f"--weights DEFAULT needs a ResNet, not --arch {hparams.arch}: omit --weights")
    try:
        batch_size_per_process(hparams)
    except ValueError as error:
        parser.error(str(error))
