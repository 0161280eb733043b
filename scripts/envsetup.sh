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
  # Over a file of its own, because everybody on the machine can read a command line.
  settings=$(authorization)
  curl --silent --show-error --fail-with-body --config /dev/fd/3 "$@" "${SRV%/}$path" 3<<END || status=$?
$settings
END
  echo
  return "${status:-0}"
}

# The header that goes with every question, as curl's configuration; nothing where GLITCHFLOW_KEY_FILE is not set.
authorization() {
  [ -n "${GLITCHFLOW_KEY_FILE:-}" ] || return 0
  key=$(cat "$GLITCHFLOW_KEY_FILE") || exit 2
  case $key in "" | *[!A-Za-z0-9._~+/=-]*) echo "$GLITCHFLOW_KEY_FILE holds no API key" >&2; exit 2 ;; esac
  printf 'header = "Authorization: Bearer %s"' "$key"
}

ask_json() {
  ask "$@" --header 'Content-Type: application/json'
}

json_string() {
  printf '"%s"' "$(printf '%s' "$1" | sed 's/\\/\\\\/g; s/"/\\"/g')"
}
