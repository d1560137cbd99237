"""cluster/practice without a Slurm: make test-fast."""

import os
import subprocess
import sys

from practice_cluster import PRACTICE


def test_a_reader_that_ends_early_is_not_an_error(tmp_path):
    read_end, write_end = os.pipe()
    os.close(read_end)

    command = [sys.executable, str(PRACTICE), "status", f"--state={tmp_path}"]
    done = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, text=True)

    assert (done.returncode, done.stderr) == (0, "")
