#!/bin/sh
# Sourced by the other scripts, and by you: `. scripts/envsetup.sh` exports SRV for this shell.
# Started instead of sourced, it can only tell what it is for.
case "$0" in *envsetup.sh)
  echo "usage: . scripts/envsetup.sh"
  echo "Exports SRV, the gateway's address (default http://127.0.0.1:8000), for this shell and the other scripts."
  exit
  ;;
esac

export SRV="${SRV:-http://127.0.0.1:8000}"

# Print the comment at the top of a script as its help.
help_of() {
  sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$1"
}

# Ask the gateway; the answer goes to standard output, also when it is a problem (exit status 22).
ask() {
  path=$1
  shift
  curl --silent --show-error --fail-with-body "$@" "${SRV%/}$path"
  echo
}

ask_json() {
  ask "$@" --header 'Content-Type: application/json'
}

json_string() {
  printf '"%s"' "$(printf '%s' "$1" | sed 's/\\/\\\\/g; s/"/\\"/g')"
}
