"""How make test divides the test files among its workers."""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling

from clone import ROOT


class OneClusterScheduling(LoadFileScheduling):
    """All files with tests on Slurm go to one worker, the other files one by one to any.

    Side by side, tests on Slurm would need a cluster each, and compete for the cores with the jobs
    that they submit. xdist begins with the files that have the most tests; as one large group, the
    tests on Slurm, which take long, are not left for the end, where the other workers wait.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "slurm" if "mark.slurm" in (ROOT / file).read_text() else file
