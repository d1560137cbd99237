"""The processes of a training: how many there are, where they run, and what is wrong with that."""

import logging
import os
import re
import signal
import subprocess
from datetime import timedelta
from pathlib import Path

from src.utils.ending import end_at_sigterm

log = logging.getLogger(__name__)


def per_process(hparams):
    """Return the images per step of each process; together they make a batch_size.

    Raises:
        ValueError: with the next possible sizes, if they do not divide exactly.
    """
    size, processes = hparams.batch_size, hparams.num_nodes * hparams.devices
    if size % processes:
        lower = size - size % processes
        possible = " or ".join(str(near) for near in (lower, lower + processes) if near)
        raise ValueError(
            f"--batch_size {size} is not divisible by {hparams.num_nodes} nodes x"
            f" {hparams.devices} devices = {processes}; try {possible}"
        )
    return size // processes


def gpus_of_a_node(devices):
    """Return what --gres asks for; GRES in site.sh says how this site calls its GPUs."""
    script = 'set -e; if [ -f site.sh ]; then source ./site.sh >&2; fi; echo "${GRES:-gpu}"'
    done = subprocess.run(["bash", "-c", script], stdout=subprocess.PIPE, text=True)
    gres = (done.stdout.split() or [""])[-1]
    if not re.fullmatch(r"\w[\w:.-]*", gres):
        raise SystemExit(f"GRES in site.sh is {gres!r}: it must be a word such as gpu or gpu:a100")
    return f"{gres}:{devices}"


def in_a_step():
    """Tell whether srun has started this process."""
    return "SLURM_STEP_ID" in os.environ


def check_tasks(num_nodes, devices):
    """Compare what was asked for with what Slurm gave: otherwise processes wait for each other.

    Raises:
        SystemExit: with both numbers and the remedy, if they differ.
    """
    asked = f"--num_nodes {num_nodes} --devices {devices} make {num_nodes * devices} processes"
    layout = f"--nodes={num_nodes} --ntasks-per-node={devices}"
    remedy = f"ask Slurm for {layout}, or change the arguments"
    if "SLURM_JOB_ID" not in os.environ:
        if num_nodes > 1:
            raise SystemExit(f"--num_nodes {num_nodes} needs a Slurm job; here there is one node")
    elif in_a_step():
        nodes = int(os.environ["SLURM_STEP_NUM_NODES"])
        tasks = int(os.environ["SLURM_STEP_NUM_TASKS"])
        found = os.environ.get("SLURM_STEP_TASKS_PER_NODE", "")
        if (nodes, tasks) != (num_nodes, num_nodes * devices):
            raise SystemExit(f"{asked}, but srun started {tasks} on {nodes} nodes: {remedy}")
        if "," in found:
            raise SystemExit(f"{asked}, but srun put {found} on the nodes: {remedy}")
        # srun --ntasks alone gives the same layout, but Lightning insists on the variable
        os.environ["SLURM_NTASKS_PER_NODE"] = str(devices)
    else:
        tasks = int(os.environ.get("SLURM_NTASKS", 1))
        if max(tasks, num_nodes * devices) > 1:
            without = "but this one was started without srun: write srun before python"
            raise SystemExit(f"{asked} and the job has {tasks} tasks, {without}")


def hardware(hparams):
    """Return Lightning's accelerator and precision, and log what every process gets.

    Raises:
        SystemExit: with one sentence, if there are too few GPUs, or no 16-bit floats on a CPU.
    """
    import torch  # takes seconds to import

    accelerator, precision, devices = hparams.accelerator, hparams.precision, hparams.devices
    num_gpus = torch.cuda.device_count()
    if accelerator == "gpu" and not num_gpus:
        remedy = "use --accelerator cpu, or a node with GPUs and a torch that is built for CUDA"
        raise SystemExit(f"--accelerator gpu: PyTorch sees no NVIDIA GPU here; {remedy}")
    if accelerator == "auto":
        accelerator = "gpu" if num_gpus else "cpu"
    if accelerator == "gpu" and num_gpus < devices:
        raise SystemExit(
            f"--devices {devices}, but this process sees {num_gpus} GPUs: ask Slurm for"
            f" --gres=gpu:{devices}, without --gpus-per-task or --gpu-bind, or lower --devices"
        )
    if accelerator == "cpu" and precision == "16-mixed":
        raise SystemExit("--precision 16-mixed needs a GPU: on a CPU use 32-true or bf16-mixed")
    if precision == "auto":
        precision = "16-mixed" if accelerator == "gpu" else "32-true"
    log.info(
        f"processes: {hparams.num_nodes} nodes x {devices} devices, {accelerator}, {precision};"
        f" images per optimizer step: {hparams.batch_size}, per process: {per_process(hparams)};"
        f" learning rate: {hparams.learning_rate}"
    )
    if accelerator == "cpu" and precision == "bf16-mixed" and not cpu_has_bfloat16():
        log.warning("this CPU has no instructions for bfloat16: 32-true is several times faster")
    return accelerator, precision


def cpu_has_bfloat16():
    info = Path("/proc/cpuinfo")
    return not info.is_file() or "bf16" in info.read_text()


def strategy(hparams):
    """Return what keeps the processes together; one that waits too long for another gives up."""
    from lightning.pytorch.strategies import DDPStrategy  # takes seconds to import

    class Strategy(DDPStrategy):
        def barrier(self, *args, **kwargs):
            super().barrier(*args, **kwargs)
            # Lightning's handler, made just before, waits for all; those that are dead never come
            signal.signal(signal.SIGTERM, end_at_sigterm)

    if hparams.num_nodes * hparams.devices == 1:
        return "auto"
    return Strategy(timeout=timedelta(minutes=hparams.timeout_min))


def disconnect(trainer):
    """Take leave of the other processes: left to Python's end, that aborts some of them."""
    import torch  # takes seconds to import

    trainer.strategy.barrier()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def environment():
    """Return Lightning's view of where the processes come from: srun, or this one starts them."""
    from lightning.pytorch.plugins import environments  # takes seconds to import

    if not in_a_step():
        return environments.LightningEnvironment()
    # two steps of a job, and two jobs on a node, must not meet at the same port
    step = int(os.environ["SLURM_JOB_ID"]) * 7 + int(os.environ["SLURM_STEP_ID"])
    os.environ.setdefault("MASTER_PORT", str(20000 + step % 10000))
    # Slurm's signals are left alone: Lightning would start the job again, from its beginning
    return environments.SLURMEnvironment(auto_requeue=False)
