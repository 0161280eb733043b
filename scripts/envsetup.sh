#!/bin/sh
# Sourced by the other scripts, and by users: `. scripts/envsetup.sh` exports SRV for this shell.
# If it is started instead of sourced, it prints its usage.
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

# Send a request to the gateway; print the answer, also if it is a problem or not a gateway's (exit status 22).
ask() (
  path=$1
  shift
  settings=$(authorization) || exit 2
  status=0
  { report=$(request "$@" 2>&1 >&4); } 4>&1 || status=$?
  echo || status=1
  printf '%s\n' "$report" | sed '/^answer|/d' >&2
  [ "$status" -eq 0 ] || exit "$status"
  check_answer "$(printf '%s\n' "$report" | sed -n 's/^answer|//p')"
)

# Run curl. The last line of its standard error is `answer|STATUS|TYPE|TARGET OF THE REDIRECT`.
request() {
  # In a file, because every user of the machine can read a command line.
  curl --silent --show-error --fail-with-body --config /dev/fd/3 \
    --write-out '%{stderr}answer|%{http_code}|%{content_type}|%{redirect_url}\n' "$@" "${SRV%/}$path" 3<<END
$settings
END
}

# Return 22 unless a gateway has answered: for curl, redirects and the pages of other servers are successes.
check_answer() {
  IFS='|' read -r code type target <<END
$1
END
  case "$code $type" in "200 application/json"*) return ;; esac
  reason="$path answered $code ${type:-without a type}, not 200 application/json as a gateway does"
  target=$(printf '%s' "$target" | sed 's|//[^/?#]*@|//***@|')
  [ -z "$target" ] || reason="$path is redirected ($code) to $target"
  case $target in *[?#]*) ;; *"$path") reason="$reason; set SRV=${target%"$path"}" ;; esac
  echo "${0##*/}: $reason" >&2
  return 22
}

# Print the header of every request as curl's configuration, or nothing if GLITCHFLOW_KEY_FILE is not set.
authorization() {
  [ -n "${GLITCHFLOW_KEY_FILE:-}" ] || return 0
  key=$(cat "$GLITCHFLOW_KEY_FILE") || exit 2
  case $key in "" | *[!A-Za-z0-9._~+/=-]*) echo "$GLITCHFLOW_KEY_FILE holds no API key" >&2; exit 2 ;; esac
  printf 'header = "Authorization: Bearer %s"' "$key"
}

ask_json() {
  ask "$@" --header 'Content-Type: application/json'
}

# Print a value as a JSON string. The value is in the environment of awk, because -v would read its backslashes.
json_string() {
  VALUE=$1 LC_ALL=C awk 'BEGIN {
    for (code = 1; code < 32; code++) escape[sprintf("%c", code)] = sprintf("\\u%04x", code)
    escape["\""] = "\\\""; escape["\\"] = "\\\\"
    for (place = 1; place <= length(ENVIRON["VALUE"]); place++) {
      character = substr(ENVIRON["VALUE"], place, 1)
      text = text (character in escape ? escape[character] : character)
    }
    printf "\"%s\"", text
  }'
}
