"""A site that differs from the practice cluster in all that site.sh can adapt.

The tests use SecondSite. To try the course by hand at such a site, on a machine with the packages
of the practice cluster and with an environment in env/:

    env/bin/python tests/helpers/second_site.py up /tmp/site
    env/bin/python tests/helpers/second_site.py down /tmp/site
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from string import Template

from practice_cluster import PRACTICE, PracticeCluster

# line of the practice cluster's files -> line of this site
CHANGES = {
    "slurm.conf.in": {
        # no default partition, 30 minutes at most
        "PartitionName=work Nodes=node[1-2] Default=YES PriorityTier=1 DefaultTime=30 MaxTime=1-0"
        " GraceTime=30": "PartitionName=standard Nodes=node[1-2] DefaultTime=10 MaxTime=30",
        "PartitionName=urgent Nodes=node[1-2] PriorityTier=10 DefaultTime=30 MaxTime=1-0"
        " PreemptMode=OFF": "",
        # an account is mandatory, and must be one of the user's
        "AccountingStorageTRES=gres/gpu": "AccountingStorageTRES=gres/gpu\n"
        "AccountingStorageEnforce=associations\nJobSubmitPlugins=lua",
        # memory is not allocated: who asks for it is refused by job_submit.lua
        "SelectTypeParameters=CR_CPU_Memory": "SelectTypeParameters=CR_CPU",
        "DefMemPerCPU=${mem_per_cpu_mb}": "",
        "JobAcctGatherParams=OverMemoryKill,UsePss": "",
        " Gres=gpu:2": " Gres=gpu:a100:2",
    },
    "gres.conf.in": {"Name=gpu File": "Name=gpu Type=a100 File"},
}
JOB_SUBMIT = """\
-- refuses what this site does not want, as job_submit.lua of many sites does
function slurm_job_submit(job, partitions, user)
   if job.account == nil then
      slurm.log_user("name your account: --account=...")
      return slurm.ERROR
   end
   if job.min_mem_per_node ~= nil or job.min_mem_per_cpu ~= nil then
      slurm.log_user("--mem is not supported here: each job may use all memory of its nodes")
      return slurm.ERROR
   end
   if string.match(job.tres_per_node or "", "gpu:%d") then
      slurm.log_user("name the type of the GPUs: --gres=gpu:a100:1")
      return slurm.ERROR
   end
   return slurm.SUCCESS
end

function slurm_job_modify(job, record, partitions, user)
   return slurm.SUCCESS
end
"""
# checks and greets before sbatch, and says more after it, as the wrappers of some sites do
SBATCH = """\
#!/bin/bash
echo "-----------------------------------------------------------------"
echo "            Welcome to the second site, 2 nodes"
echo "-----------------------------------------------------------------"
echo "--> Verifying valid submit host (login1)...OK" >&2
echo "--> Checking available allocation (course-7)...OK"
echo "sbatch: Verify job submission ... OK" >&2
${sbatch} "$$@"
code=$$?
echo "Balance of course-7: 4711 node hours"
echo "sbatch: see https://docs.example.org for help" >&2
exit $$code
"""
# stands for `apptainer exec image.sif python`
CONTAINER = """\
#!/bin/bash
[ "$$1 $$2 $$3" = "exec pytorch.sif python" ] || { echo "container: unknown: $$*" >&2; exit 125; }
shift 3
exec ${python} "$$@"
"""
# a shell as after ssh
LOGIN = """\
#!/bin/bash
cd "${folder}/home"
user=$$(id --user --name)
exec env --ignore-environment HOME="$$PWD" USER="$$user" LOGNAME="$$user" TERM="$${TERM:-dumb}" \\
    LANG=C.UTF-8 PATH="${folder}/bin:/usr/local/bin:/usr/bin:/bin" PS1="[login1 \\w]\\$$ " \\
    SLURM_CONF="${folder}/state/etc/slurm.conf" bash --noprofile --norc "$$@"
"""
# what its administrator tells a new user
WELCOME = """\
Welcome to the second site: 2 nodes.

cluster     practice, in a federation: set SLURM_CLUSTERS=practice
account     course-7; every job must name it
partition   standard; no partition is the default; at most 30 minutes per job
GPUs        2 per node, of the type a100: --gres=gpu:a100:1
memory      not allocated: sbatch refuses --mem
scratch     "${folder}/my scratch", for clones and results
data        "${folder}/shared data", read-only: MNIST and CIFAR-10 in small samples
Python      "${folder}/course software/container" exec pytorch.sif python
            on all nodes, with PyTorch and the other packages of the course

sbatch is a wrapper that prints lines of its own. This is all in ${folder}/README.
"""
SITE = """\
export SLURM_CLUSTERS=practice
export SBATCH_ACCOUNT=course-7
export SBATCH_PARTITION=standard
export SBATCH_TIMELIMIT=00:30:00
export GRES=gpu:a100
export PYTHON="${folder}/course software/container exec pytorch.sif python"
export DATA_DIR="${folder}/shared data"
"""


class SecondSite(PracticeCluster):
    """A cluster in a folder of its own, with what else is special about the site."""

    def __init__(self, folder: Path, prefix: Sequence[str] = ()) -> None:
        super().__init__(folder / "state", folder / "cluster/practice", prefix)
        self.folder = folder
        self.data = folder / "shared data"
        self.scratch = folder / "my scratch"

    def write(self) -> None:
        """Write the files of the site; the data and the clones are the caller's."""
        shutil.copytree(PRACTICE.parent, self.program.parent)
        for name, changes in CHANGES.items():
            file = self.program.with_name(name)
            text = file.read_text()
            for old, new in changes.items():
                if old not in text:
                    raise ValueError(f"{name} has no line with {old}")
                text = text.replace(old, new)
            file.write_text(text)
        self.program.with_name("job_submit.lua.in").write_text(JOB_SUBMIT)
        self.install("bin/sbatch", SBATCH, sbatch=shutil.which("sbatch"))
        self.install("course software/container", CONTAINER, python=sys.executable)
        self.install("login", LOGIN)
        (self.folder / "README").write_text(Template(WELCOME).substitute(folder=self.folder))
        self.scratch.mkdir()
        (self.folder / "home").mkdir()

    def install(self, name: str, text: str, **values: str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(Template(text).substitute(values, folder=self.folder))
        path.chmod(0o755)

    def up(self) -> str:
        """Start the cluster, with an account that this user must name in each job."""
        shown = super().up()
        self.env["PATH"] = f"{self.folder}/bin:{self.env['PATH']}"
        user = self.run(["id", "--user", "--name"]).strip()
        account = ["course-7", "description=course", "organization=course"]
        for words in (
            ["account", *account],
            ["user", user, "account=course-7"],
            # a federation of one cluster: with SLURM_CLUSTERS, sbatch answers "12;practice"
            ["federation", "campus", "clusters=practice"],
        ):
            # fails if it is already there
            command = [*self.prefix, "sacctmgr", "--immediate", "add", *words]
            subprocess.run(command, env=self.env, capture_output=True)
        return shown

    def site_sh(self) -> str:
        """Return the site.sh that a user of this site writes."""
        page = (PRACTICE.parents[1] / "docs/sites.md").read_text()
        [without_mem] = re.findall(r"^```bash no-run without-mem\n(.*?)^```", page, re.M | re.S)
        return Template(SITE).substitute(folder=self.folder) + without_mem


def main() -> None:
    parser = argparse.ArgumentParser(description="A cluster like that of another site.")
    parser.add_argument("command", choices=["up", "down"])
    parser.add_argument("folder", type=Path, help="folder of the site, which `up` creates")
    arguments = parser.parse_args()
    site = SecondSite(arguments.folder.absolute())
    if arguments.command == "down":
        site.down()
        return
    if not site.data.exists():
        site.folder.mkdir(parents=True, exist_ok=True)
        site.write()
        make_sample = PRACTICE.parents[1] / "data/make_sample.py"
        subprocess.run([sys.executable, make_sample, site.data], check=True)
        subprocess.run(["chmod", "--recursive", "a-w", site.data], check=True)
    site.up()
    print((site.folder / "README").read_text())
    print(f"log in: {site.folder}/login")


if __name__ == "__main__":
    main()
