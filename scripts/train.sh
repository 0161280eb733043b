#!/bin/sh
# usage: train.sh USER TOKEN
# Freezes the batch for USER, if it is large enough: {"resp": "FROZEN", "n_f", "bt_wrt", "holder", "batch", "digest"} or
# {"resp": "WAITING"}. If another user has frozen it, nothing changes, and "holder" is that user.
#
# SRV is the address of the gateway (default http://127.0.0.1:8000), GLITCHFLOW_KEY_FILE the file with the API key, if
# the gateway requires one. Exit status 22: the gateway answered with a problem, or SRV is not its address.
set -eu
. "$(dirname "$0")/envsetup.sh"
case "${1:-}" in --help | -h) help_of "$0"; exit ;; esac
[ $# -eq 2 ] || { help_of "$0" >&2; exit 2; }
ask_json /train --data "{\"user\": $(json_string "$1"), \"token\": $(json_string "$2")}"
