"""Options for sbatch, given after -- on the command line: python run.py -- --constraint=a100"""

from src.utils.errors import UserError

# options that run.py sets itself, by their long and short names -> the argument to use instead
SET_BY_RUN_PY = {
    ("--array", "-a"): "--nb_trials",
    ("--chdir", "-D"): None,
    ("--comment",): None,
    ("--cpus-per-task", "-c"): "--num_workers",
    ("--error", "-e"): "--log_path",
    ("--gpus", "-G", "--gpus-per-node", "--gpus-per-task", "--gres"): "--accelerator",
    ("--job-name", "-J"): "--experiment_name",
    ("--mail-type", "--mail-user"): "--email",
    ("--mem", "--mem-per-cpu", "--mem-per-gpu"): "--mem_gb",
    ("--nodes", "-N"): "--num_nodes",
    ("--ntasks", "-n", "--ntasks-per-node"): "--devices",
    ("--open-mode",): None,
    ("--output", "-o"): "--log_path",
    ("--parsable",): None,
    ("--requeue", "--no-requeue"): "--max_requeues",
    ("--signal",): "--signal",
    ("--test-only",): "--dry_run",
    ("--time", "-t"): "--time_min",
    ("--wait", "-W"): None,
    ("--wrap",): None,
}
# short options without a value; another one may follow in the same word: -HN2
WITHOUT_VALUE = "HIkOQsv"
RESERVED = {name: argument for names, argument in SET_BY_RUN_PY.items() for name in names}


def job_options(hparams):
    """Return the sbatch options that are not fields of Job.

    To make one of them an argument of run.py, declare it in add_job_arguments, and turn it into the
    option here.

    Raises:
        UserError: if an option would break the batch script.
    """
    options = list(hparams.sbatch_options)
    if hparams.email:
        options += ["--mail-type=END,FAIL", f"--mail-user={hparams.email}"]
    for option in options:
        if not option.isprintable():
            raise UserError(f"{option!r:.80} cannot be in an #SBATCH line: it is not printable")
    return options


def sbatch_options(words, known):
    """Join the words after -- into options, one per #SBATCH line.

    `known` contains the arguments of run.py, so that errors suggest only those that exist.

    Raises:
        ValueError: if a word cannot be in the script.
    """
    options = []
    for word in words:
        if not word.isprintable() or '"' in word or "\\" in word:
            raise ValueError(
                f"{word!r:.80} cannot be in an #SBATCH line: it contains a special character"
            )
        if word.strip("-") and word.startswith("-"):
            refuse_reserved(word.partition("=")[0], known)
            option, equals, value = word.partition("=")
            options.append(option + equals + quoted(value) if equals else word)
        elif options and not word.startswith("-") and not set(options[-1]) & set("= "):
            # some long options take their value only after an equals sign
            separator = "=" if options[-1].startswith("--") else " "
            options[-1] += separator + quoted(word)
        else:
            raise ValueError(
                f"{word!r:.80} after -- is not an sbatch option: options begin with a dash"
            )
    return options


def quoted(value):
    """Quote a value for sbatch if necessary."""
    return f'"{value}"' if not value or set(value) & set(" '#") else value


def refuse_reserved(option, known):
    """Refuse an option that run.py sets itself, even if its name is abbreviated, as sbatch allows.

    Short options can be combined, and a value can follow directly: -HN2.
    """
    if option.startswith("--"):
        names = [name for name in RESERVED if name.startswith(option)]
    else:
        option = "-" + option[1:].lstrip(WITHOUT_VALUE)[:1]
        names = [name for name in RESERVED if name == option]
    if names:
        argument = RESERVED[names[0]]
        instead = f"use {argument} instead" if argument in known else "remove it"
        raise ValueError(f"{option} is an option that run.py sets itself: {instead}")
