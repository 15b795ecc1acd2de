# shellcheck shell=bash
# What the scripts in this folder share. To be sourced by bash.

if [ -n "${REACTOR_TOOLS_DIR:-}" ]; then
  TOOLS=$REACTOR_TOOLS_DIR
elif [ "$(id -u)" = 0 ]; then
  TOOLS=/opt/reactor-tools
else
  TOOLS=${HOME:?}/.cache/reactor-tools
fi

# Prints the bin folder of a Postgres server, 15 or newer: the oldest of those from apt, else the one in the tools.
postgres_bin() {
  local dir version
  for version in $(find /usr/lib/postgresql -mindepth 1 -maxdepth 1 -printf '%f\n' 2>/dev/null | grep -E '^[0-9]+$' | sort -n); do
    dir=/usr/lib/postgresql/$version/bin
    if [ "$version" -ge 15 ] && [ -x "$dir/postgres" ] && [ -x "$dir/initdb" ]; then
      echo "$dir"
      return 0
    fi
  done
  if [ -x "$TOOLS/pg18/bin/postgres" ]; then
    echo "$TOOLS/pg18/bin"
    return 0
  fi
  return 1
}
