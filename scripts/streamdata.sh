#!/bin/sh
# usage: streamdata.sh [FILE …]
# Sends segment files, or one segment from standard input: {"resp": "CREATED"|"FROZEN", "body"} for each.
#
# SRV is the address of the gateway (default http://127.0.0.1:8000), GLITCHFLOW_KEY_FILE the file with the API key, if
# the gateway requires one. Exit status 22: the gateway answered with a problem, or SRV is not its address;
# 2: a file cannot be read. A file that fails is named, and the others are sent; the first failure is the exit status.
set -eu
. "$(dirname "$0")/envsetup.sh"
case "${1:-}" in --help | -h) help_of "$0"; exit ;; esac

send() {
  if [ "$1" != - ] && { [ ! -r "$1" ] || [ -d "$1" ]; }; then
    echo "streamdata.sh: cannot read $1" >&2
    return 2
  fi
  ask_json /streamdata --data-binary "@$1" && return
  status=$?
  echo "streamdata.sh: sending $1 failed" >&2
  return "$status"
}

[ $# -gt 0 ] || set -- -
failed=0
for file in "$@"; do
  send "$file" || failed=$((failed ? failed : $?))
done
exit "$failed"
