#!/bin/bash
# The environment of every job: sourced in the repository's root, before srun. Afterwards $PYTHON is
# the command that runs Python at this site, and srun works with and without Slurm.

if [ ! -f cluster/site_env.sh ]; then
    echo "No cluster/site_env.sh in $PWD: source cluster/job_env.sh in the repository's root." >&2
    exit 1
fi

# --- other launchers: what they left in the shell would tell Lightning a wrong rank or address
unset RANK LOCAL_RANK GROUP_RANK NODE_RANK WORLD_SIZE JSM_NAMESPACE_RANK JSM_NAMESPACE_SIZE
unset TORCHELASTIC_RUN_ID TORCHELASTIC_USE_AGENT_STORE OMPI_COMM_WORLD_SIZE MPI_LOCALNRANKS
unset MASTER_ADDR MASTER_PORT HPC_STARTER_PIPE
if [ -z "${SLURM_JOB_ID:-}" ]; then
    unset SLURM_NTASKS SLURM_PROCID SLURM_LOCALID SLURM_STEP_ID
elif [ "${SLURM_PROCID:-0}" != 0 ]; then
    echo "srun has started this script ${SLURM_NTASKS:-} times, but the script calls srun itself:" \
        "start it without srun." >&2
    exit 1
fi

source cluster/site_env.sh

# --- Python: site.sh names a command (PYTHON) or a virtual environment (VENV); the default is env
read -r PYTHON <<<"${PYTHON:-}" || true # strips surrounding spaces
if [ -z "$PYTHON" ]; then
    VENV="${VENV:-env}"
    if [ ! -f "$VENV/bin/activate" ]; then
        echo "No Python environment at $VENV (seen from $PWD): create it as described in docs/preparation.md," \
            "or set VENV or PYTHON in site.sh." >&2
        exit 1
    fi
    if [ ! -x "$VENV/bin/python" ]; then
        echo "$VENV/bin/python does not run here: load the module of its Python in site.sh, or create" \
            "the environment again as described in docs/preparation.md." >&2
        exit 1
    fi
    # read it as a login shell does, like site.sh
    set +eu +o pipefail
    source "$VENV/bin/activate"
    set -euo pipefail
    # activate names the folder where the environment was created; it may have been moved since
    PATH="$(cd "$VENV/bin" && pwd):$PATH"
    PYTHON=python
else
    program=$PYTHON
    until [ -f "$program" ] || [ "$program" = "${program% *}" ]; do program=${program% *}; done
    if [[ $program == *" "* ]] && [ -x "$program" ]; then
        # the path of a program may contain spaces: from here on, it is found by name
        PATH="$(cd "$(dirname "$program")" && pwd):$PATH"
        PYTHON="$(basename "$program")${PYTHON#"$program"}"
    fi
    # shellcheck disable=SC2086 # it may be several words
    if [ "$($PYTHON -c 'print(6 * 7)' </dev/null | tail -n 1)" != 42 ]; then
        remedy="see the error above, if any; load its module in site.sh, or correct it."
        case $PYTHON in *[\"\'\\]*) remedy="remove the quotes and backslashes inside it." ;; esac
        echo "PYTHON in site.sh is '$PYTHON', which does not run Python here: $remedy" >&2
        exit 1
    fi
fi

# --- processes: one thread each; output is not buffered; the program is in the current folder
export OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1
unset PYTHONSAFEPATH

if [ -n "${SLURM_JOB_ID:-}" ]; then
    # srun inherits neither --cpus-per-task (since Slurm 22.05) nor, at some sites, the environment
    export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}" SLURM_EXPORT_ENV=ALL
    # a task that fails ends the others
    export SLURM_KILL_BAD_EXIT=1
    # in a shell of srun --pty, use the resources of that shell instead of waiting for others
    export SLURM_OVERLAP=1
else
    # outside a job, the command runs here
    srun() { "$@"; }
fi

# for single-process programs: lessons 1 to 7
single_task() {
    if [ "${SLURM_NTASKS:-1}" != 1 ]; then
        echo "This job has $SLURM_NTASKS tasks, but until lesson 8 the program is a single process:" \
            "leave --nodes and --ntasks-per-node at 1." >&2
        exit 1
    fi
}

# for run.sh, of which Slurm runs a copy: "git switch" may have changed the program since sbatch
same_lesson() {
    if ! grep -qsx "same_lesson $1" run.sh; then
        echo "This job was submitted for lesson $1, but $PWD now contains another lesson: run" \
            "git switch $1, then submit the job again." >&2
        exit 1
    fi
}

# --- the end: a process ended by SIGKILL cannot report that itself; the exit code is unchanged
explain_signal() {
    local code=$? name
    if [ $code -gt 128 ]; then
        name=$(kill -l $code 2>/dev/null || echo "NAL $((code - 128))")
        echo "A process was ended by SIG$name. If a line above names memory, ask for more with --mem" \
            "(run.py: --mem_gb); for other causes see docs/troubleshooting.md." >&2
    fi
}
trap explain_signal EXIT
