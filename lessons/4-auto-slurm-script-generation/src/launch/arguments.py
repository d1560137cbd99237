"""The arguments of run.py, each declared once; its group decides whether the job gets it."""

import argparse

from src.launch.argument_types import email, experiment, minutes, number, path
from src.launch.parser import Parser


def parse_args():
    """Return the parser and the checked arguments of the command line."""
    parser = Parser(
        description="Train a digit classifier, in a Slurm job or on a machine without Slurm.",
        epilog="Example: python run.py --learning_rate=0.003 --time_min=30 -- --qos=long",
    )
    add_log_arguments(parser)
    add_data_arguments(parser)
    add_training_arguments(parser)
    add_optimizer_arguments(parser)
    add_job_arguments(parser)
    hparams = parser.parse_args()
    check_arguments(parser, hparams)
    return parser, hparams


def add_log_arguments(parser):
    parser.begin_group("logs")
    parser.add_argument(
        "--experiment_name",
        type=experiment,
        default="mnist",
        help="name of the experiment and of its folder",
    )
    parser.add_argument(
        "--log_path",
        type=path,
        default="logs",
        help="folder that contains the experiments; if given, relative to the current folder",
    )
    # N of the run's folder version_N; the generated script passes it
    parser.add_argument("--run_number", type=number(int, 0), help=argparse.SUPPRESS)


def add_data_arguments(parser):
    parser.begin_group("data")
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
        default=2,
        help="number of data-loading worker processes",
    )


def add_training_arguments(parser):
    parser.begin_group("training")
    parser.add_argument(
        "--batch_size",
        type=number(int, 1),
        default=64,
        help="images per optimizer step",
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


def add_job_arguments(parser):
    parser.begin_group("job", launch_only=True)
    parser.add_argument(
        "--time_min",
        type=minutes,
        default=15,
        help="time limit, in minutes or as days-hours:minutes:seconds",
    )
    parser.add_argument(
        "--mem_gb",
        type=number(int, 0),
        default=4,
        help="memory in GB; 0 means the site's default",
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
