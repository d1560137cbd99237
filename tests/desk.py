"""A login node for tests: a clone of the course, and the practice cluster it submits to."""

import re
import sys

from practice import FINISHED, PracticeCluster, wait_until


class Site(PracticeCluster):
    def __init__(self, cluster, clone):
        super().__init__(cluster.state)
        self.clone, self.folder = clone, clone.folder
        self.env = {**cluster.env, "VENV": sys.prefix, "HOME": clone.env["HOME"]}
        self.main = cluster

    def launch(self, *args, **env):
        return self.clone.run(sys.executable, "run.py", *args, env={**self.env, **env})

    def launched(self, *args, **env):
        """Launch, and return the numbers of the jobs."""
        done = self.launch(*args, **env)
        assert done.returncode == 0, done.stderr
        return re.findall(r"^job (\d+) -> logs/", done.stdout, re.MULTILINE)

    def log(self, job, kind="out"):
        [path] = self.folder.glob(f"logs/*/slurm_{kind}_logs/*_{job}.{kind}")
        return path.read_text()

    def wait_for_training(self, job):
        """Wait until the first epoch is done."""

        def has_begun():
            logs = self.folder.glob(f"logs/*/slurm_out_logs/*_{job}.out")
            return any("epoch  1/" in log.read_text() for log in logs)

        wait_until(has_begun, 120, "the first epoch")

    def accounted(self, job):
        """The state of a finished job in sacct, which learns of it after the controller."""
        found = [""]

        def is_there():
            found[0] = self.sacct(job, "State").get(job, {}).get("State", "").split(" ")[0]
            return found[0] in FINISHED

        wait_until(is_there, 60, f"job {job} finished in sacct")
        return found[0]

    def failed(self, job, timeout=120):
        """Wait for the end of a job that must not look as if it had trained; return its log."""
        self.wait(job, timeout)
        log = self.log(job) + self.log(job, "err")
        state = self.accounted(job)
        assert state != "COMPLETED", log
        assert "test loss" not in log
        assert not list(self.folder.glob("logs/**/DONE.json"))
        return log

    def submit_run_sh(self, branch, *options, args=()):
        """Submit the run.sh of a lesson, and return the job."""
        self.clone.git("switch", "--quiet", branch)
        words = ["sbatch", "--parsable", *options, "run.sh", *args]
        done = self.clone.run(*words, env=self.env)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def run_sh_log(self, job):
        path = self.folder / f"slurm.{job}.out"
        return path.read_text() if path.exists() else ""
