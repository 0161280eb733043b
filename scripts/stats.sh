#!/bin/sh
# usage: stats.sh
# Prints the number of segments and bytes of the current batch: {"n_itm", "buff_size"}.
#
# SRV is the address of the gateway (default http://127.0.0.1:8000), GLITCHFLOW_KEY_FILE the file with the API key, if
# the gateway requires one. Exit status 22: the gateway answered with a problem, or SRV is not its address.
set -eu
. "$(dirname "$0")/envsetup.sh"
case "${1:-}" in --help | -h) help_of "$0"; exit ;; esac
ask /stats
