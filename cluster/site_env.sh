#!/bin/bash
# Reads the settings of the site from site.sh: sourced in the repository's root by job_env.sh, by
# the launcher and by everything else that needs a setting of the site.
# site.sh is read as in a login shell, where a command that fails and an unset variable are not
# errors: modules, conda and other software of a site rely on that. Afterwards they are errors.

# what other programs and jobs left in the shell are not settings of this site
unset PYTHON GRES NO_MEM
unset SBATCH_ARRAY_INX SBATCH_ERROR SBATCH_JOB_NAME SBATCH_OPEN_MODE SBATCH_OUTPUT SBATCH_WAIT
unset SBATCH_CPUS_PER_GPU SBATCH_GPUS SBATCH_GPUS_PER_NODE SBATCH_GPUS_PER_TASK SBATCH_GRES
unset SBATCH_MEM_PER_CPU SBATCH_MEM_PER_GPU SBATCH_MEM_PER_NODE SBATCH_SIGNAL SBATCH_TIMELIMIT

if [ -e site.sh ] || [ -L site.sh ]; then
    if LC_ALL=C grep -q -e $'\r$' -e $'^\xef\xbb\xbf' site.sh 2>/dev/null; then
        remedy="sed -i '1s/^\xef\xbb\xbf//; s/\r\$//' site.sh"
        printf '%s\n' "site.sh was saved in the format of Windows: convert it with $remedy" >&2
        exit 1
    fi
    bash -n site.sh || { echo "site.sh cannot be read: fix the error above" >&2; exit 1; }
    site_root=$PWD site_words=("$@")
    trap 'echo "site.sh has ended this script: fix the error above, or remove the exit from site.sh" >&2; exit 1' EXIT
    set +eu +o pipefail
    # without arguments: some files of a site, such as conda's activate, would read ours
    set --
    source ./site.sh
    trap - EXIT
    set -- "${site_words[@]}"
    cd "$site_root" || exit
fi
set -euo pipefail
