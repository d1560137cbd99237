#!/bin/bash
# Reads the settings of the site from site.sh: sourced in the repository's root by job_env.sh, by
# the launcher and by everything else that needs a setting of the site.

# a PYTHON that another program left in the shell is not a setting of this site
unset PYTHON
root=$PWD
trap 'echo "site.sh has ended this script: fix the error above, or remove the exit from site.sh" >&2; exit 1' EXIT
if [ -f site.sh ]; then source ./site.sh; fi
trap - EXIT
cd "$root" || exit
