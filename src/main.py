"""Carry out a run from the settings in its folder: python -m src.main logs/cifar10/version_0"""

import os
import sys
from pathlib import Path

# a job starts this file in the run's copy of the program, and the imports must stay within it
sys.path[0] = str(Path(__file__).resolve().parents[1])

try:
    from src.config.files import read_settings
    from src.launch.run_folder import NEW, discard_run_folder
    from src.launch.start import has_finished, is_first, prepare_process
    from src.utils import stop_signal
    from src.utils.errors import UserError, plain_errors
except ImportError as error:
    remedy = "activate the environment, with source env/bin/activate (docs/preparation.md)"
    raise SystemExit(f"{error.msg}: {remedy}") from None


def main(folder):
    """Carry out the stages of a run; all settings are in its config.yaml."""
    settings = read_settings(folder)
    stop_signal.arm(settings.slurm.signal)  # before the imports that take seconds
    if has_finished(settings, folder):
        return
    prepare_process(settings, folder)
    from src.training import run_stages  # imports PyTorch, which takes seconds

    run_stages(settings, folder)


if __name__ == "__main__":
    with plain_errors():
        if len(sys.argv) < 2:
            raise UserError("name the folder of a run: python -m src.main logs/cifar10/version_0")
        run_folder = Path(os.path.normpath(sys.argv[1]))
        try:
            main(run_folder)
        finally:
            if NEW in sys.argv[2:] and is_first():
                discard_run_folder(run_folder)
