"""test-tube's SlurmCluster, mended where it hurt users of real clusters: see run.py."""

import contextlib
import itertools
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from test_tube import SlurmCluster

from src.utils.arguments import training_arguments

# the script up to srun, with {{placeholders}}; it has no --signal, since test-tube's would come
# 5 minutes early and end a program that has no handler for it
TEMPLATE = Path(__file__).with_name("job.sh")


def has_slurm():
    """Tell whether this machine belongs to a Slurm cluster, even if sbatch itself is missing."""
    return "SLURM_CONF" in os.environ or any(map(shutil.which, ("sbatch", "srun", "sinfo")))


def make_version(folder):
    """Make the next free folder version_N and return N: of launches at once, each gets its own."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for version in itertools.count():
            if not os.path.lexists(f"{folder}/slurm_scripts/version_{version}.sh"):
                with contextlib.suppress(FileExistsError):
                    Path(folder, f"version_{version}").mkdir()
                    return version
    except OSError as error:
        reason = f"cannot make a folder in {folder} ({error.strerror})"
        raise SystemExit(f"{reason}; name another --log_path") from None


def submit(script):
    """Hand a script to sbatch and return the id of the job; test-tube ignores a refusal."""
    command = ["bash", Path(__file__).with_name("submit.sh"), script]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    # site.sh and sites may print more than sbatch; what counts is whether there is a job
    job = (done.stdout.split() or [""])[-1].partition(";")[0]
    if not job.isdecimal():
        why = " ".join(done.stderr.split()) or f"sbatch ended with {done.returncode}, without a job"
        raise SystemExit(f"not submitted: {why}; see sinfo and site.sh")
    sys.stderr.write(done.stderr)
    return job


class Cluster(SlurmCluster):
    """Submits a job for each trial; test-tube keeps the settings and makes the trials."""

    dry_run = False

    def optimize_parallel_cluster_cpu(self, train_function, nb_trials, job_name):
        if "SLURM_JOB_ID" in os.environ and not self.dry_run:
            where = f"this shell is in job {os.environ['SLURM_JOB_ID']}; jobs do not submit jobs"
            raise SystemExit(f"{where}: train here with --local, or leave the job first")
        self.job_name, self.log_path = job_name, f"{self.log_path}/{job_name}"
        # for a single trial test-tube would take the first value of the list, not the user's
        asked = self.hyperparam_optimizer
        for trial in asked.generate_trials(nb_trials) if nb_trials > 1 else [asked]:
            # test-tube finds the next number in names of files, and stumbles over the user's own
            self.schedule_experiment(trial, 0 if self.dry_run else make_version(self.log_path))

    def schedule_experiment(self, trial_params, exp_i):
        if self.dry_run:
            return print(self.script(trial_params, exp_i))
        script = Path(self.log_path, "slurm_scripts", f"version_{exp_i}.sh")
        try:
            for folder in ("slurm_out_logs", "slurm_err_logs", "slurm_scripts"):
                Path(self.log_path, folder).mkdir(exist_ok=True)
            script.write_text(self.script(trial_params, exp_i))
        except OSError as error:
            reason = f"cannot write to {error.filename or script} ({error.strerror})"
            raise SystemExit(f"{reason}; name another --log_path") from None
        try:
            job = submit(script)
        except SystemExit:
            script.unlink()  # so that it does not look as if it had been submitted
            Path(self.log_path, f"version_{exp_i}").rmdir()
            raise
        except KeyboardInterrupt:
            raise SystemExit(f"interrupted: squeue tells whether {script} was submitted") from None
        print(f"job {job} -> {self.log_path} (version_{exp_i})", flush=True)

    def script(self, trial, version):
        """Return the batch script; test-tube's leaves values unquoted, and goes on after errors."""
        values = {
            "name": self.job_name,
            "nodes": self.per_experiment_nb_nodes,
            "tasks": 1,
            "cpus": self.per_experiment_nb_cpus,
            "memory": self.memory_mb_per_node,
            "time": self.job_time,
            "log_path": self.log_path,
            "version": version,
        }
        more = "".join(f"# {why}\n#SBATCH --{k}={v}\n" for k, v, why in self.slurm_commands)
        text = TEMPLATE.read_text().replace("\n\n", f"\n{more}\n", 1)
        for name, value in values.items():
            text = text.replace("{{" + name + "}}", str(value))
        # --name=value, so that a value may begin with a dash
        arguments = {**training_arguments(trial), "version": version}.items()
        quoted = [shlex.quote(f"--{name}={value}") for name, value in arguments]
        return text + " \\\n    ".join([f"srun {self.python_cmd} run.py --local", *quoted]) + "\n"
