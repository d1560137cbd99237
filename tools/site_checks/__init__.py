"""The rows of make preflight, by what they look at; tools/preflight.py runs them in order.

login_node, site_file, slurm and lesson_jobs look from the login node. probe submits a job, which
runs node.py on each of its nodes; judge, judge_machine and judge_software turn what it found into
rows. training is the row of FULL=1, and report prints all of them.
"""

import sys
from pathlib import Path

# some rows use the launcher of the finished program
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
