"""Let data-loading workers pass on their batches on any cluster: see src/main.py."""

import os
import resource
import tempfile
from multiprocessing import queues, util

from torch._utils import ExceptionWrapper

from src.utils.errors import UserError

MIN_OPEN_FILES = 256
# a worker creates <TMPDIR>/pymp-????????/listener-????????; a socket's path has at most 107 bytes
MAX_TMPDIR = 75


def prepare_workers():
    """Choose a folder for sockets, and let workers report errors; call this before the training.

    Raises:
        UserError: if the processes may open too few files.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 < limit < MIN_OPEN_FILES:  # -1 is no limit
        few = f"a process may open only {limit} files here, but training needs {MIN_OPEN_FILES}"
        raise UserError(f'{few}: add "ulimit -n 1024" to site.sh, or ask your site')
    if len(os.fsencode(tempfile.gettempdir())) > MAX_TMPDIR:
        tempfile.tempdir = "/tmp"
        util.get_temp_dir()  # multiprocessing keeps this folder for the sockets of all workers
        tempfile.tempdir = None  # other files still go to TMPDIR
    queues.Queue._on_queue_feeder_error = send_error


def send_error(queue, error, item):
    """Send an error in place of a batch; Python would only print it, and the training hang."""
    index, _ = item
    queue.put((index, ExceptionWrapper(where="in a DataLoader worker process")))
