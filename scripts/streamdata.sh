#!/bin/sh
# usage: streamdata.sh [FILE …]
# Sends segment files, or one segment from standard input: {"resp": "CREATED"|"FROZEN", "body"} for each.
#
# SRV is the address of the gateway (default http://127.0.0.1:8000), GLITCHFLOW_KEY_FILE the file with the API key, if
# the gateway requires one. Exit status 22: the gateway answered with a problem.
set -eu
. "$(dirname "$0")/envsetup.sh"
case "${1:-}" in --help | -h) help_of "$0"; exit ;; esac
[ $# -gt 0 ] || set -- -
for file in "$@"; do
  [ "$file" = - ] || [ -r "$file" ] || { echo "streamdata.sh: cannot read $file" >&2; exit 2; }
  ask_json /streamdata --data-binary "@$file"
done
