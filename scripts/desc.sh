#!/bin/sh
# usage: desc.sh
# Tells the state of the datastore: {"resp": "OPERATIONAL"|"FROZEN"}.
#
# SRV names the gateway (default http://127.0.0.1:8000), GLITCHFLOW_KEY_FILE the file with the API key where it asks for one.
# Exit status 22: the gateway told a problem.
set -eu
. "$(dirname "$0")/envsetup.sh"
case "${1:-}" in --help | -h) help_of "$0"; exit ;; esac
ask /desc
