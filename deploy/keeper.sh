#!/usr/bin/env bash
# Ends what a script of this folder has started, when that script has ended, however it ended.
#
#   keeper.sh STAGE SCRIPT [PARENT]
#
# Standard input is a pipe that only the script holds open. STAGE/processes lists what it started, "SIGNAL PROCESS" a
# line; afterwards the folder STAGE is removed. When the process PARENT is gone, the script is asked to end.
set -u

stage=$1 script=$2 parent=${3:-}
trap '' INT TERM HUP

# Asks twice, since a service takes the second signal as "at once", and then does not ask any more.
end_process() {
  local signal=$1 process=$2 try
  for try in "$signal" "$signal" KILL; do
    kill "-$try" "$process" 2>/dev/null || return 0
    for _ in {1..40}; do
      kill -0 "$process" 2>/dev/null || return 0
      sleep 0.1
    done
  done
}

while true; do
  read -r -t 1 _
  # More than 128 is "nothing within a second", anything else is the end of the pipe.
  [ $? -gt 128 ] || break
  if [ -n "$parent" ] && ! kill -0 "$parent" 2>/dev/null; then
    kill -TERM "$script" 2>/dev/null
    break
  fi
done

# The last one started is the first to go.
tac "$stage/processes" | while read -r signal process; do
  end_process "$signal" "$process"
done
rm -rf "$stage"
