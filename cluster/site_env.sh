#!/bin/bash
# Reads site.sh, what differs from site to site: sourced in the repository's root by job_env.sh, by
# the launcher and by whatever else needs a setting of the site.

# a PYTHON that some other program left in the shell is not this site's
unset PYTHON
root=$PWD
trap 'echo "site.sh has ended this script: fix the error above, or remove the exit from site.sh" >&2; exit 1' EXIT
if [ -f site.sh ]; then source ./site.sh; fi
trap - EXIT
cd "$root" || exit
