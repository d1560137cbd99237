"""Python with the libraries of the course already imported, which saves each run some seconds."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

# each line of standard input is a call; a fork of this process runs it, as python would
SERVER = """
import atexit, json, os, runpy, signal, sys, tempfile, traceback
import lightning, torchmetrics, torchvision
from lightning.pytorch import callbacks, loggers, profilers
from torch.utils import tensorboard

def next_call():
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            return json.loads(line)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    sys.exit()

call = next_call()
signal.alarm(call["timeout"])
os.chdir(call["cwd"])
os.environ.clear()
os.environ.update(call["env"])
tempfile.tempdir = None  # the imports have asked for it, but the call may have another TMPDIR
for number, name in enumerate([os.devnull, call["stdout"], call["stderr"]]):
    os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
sys.argv, sys.path[0] = call["words"], call["cwd"]
code = 0
try:
    exec(call["before"])
    if sys.argv[0] == "-m":
        del sys.argv[0]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as error:
    code = error.code or 0
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
except BaseException:
    traceback.print_exc()
    code = 1
# without Python's cleanup of all modules, which would take seconds
atexit._run_exitfuncs()
sys.stdout.flush()
os._exit(code)
"""


class WarmPython:
    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.folder = folder
        # a file may change twice within the second that Python's caches of bytecode can tell
        self.env = {**env, "PYTHONDONTWRITEBYTECODE": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.server = subprocess.Popen([sys.executable, "-c", SERVER], env=self.env, **pipes)

    def run(
        self, *words: str, cwd: Path, before: str = "", timeout: int = 120, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run python with these words in a folder, after some statements."""
        files = {name: str(self.folder / name) for name in ("stdout", "stderr")}
        call = {"words": words, "cwd": str(cwd), "before": before, "timeout": timeout, **files}
        self.server.stdin.write(json.dumps({**call, "env": {**self.env, **env}}) + "\n")
        self.server.stdin.flush()
        code = int(self.server.stdout.readline())
        printed = [Path(files[name]).read_text() for name in ("stdout", "stderr")]
        return subprocess.CompletedProcess(words, code, *printed)

    def stop(self) -> None:
        self.server.kill()
        self.server.wait()


@pytest.fixture(scope="module")
def warm_python(module_clone, tmp_path_factory) -> Iterator[WarmPython]:
    python = WarmPython(tmp_path_factory.mktemp("python"), module_clone.env)
    yield python
    python.stop()
