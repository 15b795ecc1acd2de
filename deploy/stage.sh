# shellcheck shell=bash disable=SC2154 # $root is set by the script that sources this
# A stage for the demo and the cluster: a folder, processes that end with the script, a private Postgres with the
# sample tables and somebody who writes to them. To be sourced by bash, after lib.sh.

readonly SAMPLE_USER=7f8c1c1e-52a2-4c4e-9d9e-0d6a3f0c5b11
readonly SAMPLE_ORG=acme
readonly READY_SECS=60

say() { printf '\033[1m%s\033[0m\n' "$*"; }
die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# open_stage NAME: makes the folder $stage, and leaves a keeper behind (keeper.sh) who ends every process on the list
# $stage/processes and removes the folder when this script ends. Under make it looks after make too.
open_stage() {
  stage=$(mktemp -d "/tmp/reactor-$1-XXXXXX")
  chmod 711 "$stage"
  : >"$stage/processes"
  exec 9> >(exec setsid "$root/deploy/keeper.sh" "$stage" $$ ${MAKELEVEL:+$PPID})
  keeper=$!
  trap close_stage EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
}

close_stage() {
  trap '' INT TERM HUP
  exec 9>&-
  wait "$keeper" 2>/dev/null || true
}

# start NAME SIGNAL COMMAND...: runs it in the background with its output in $stage/NAME.log, away from the terminal's
# Ctrl-C; SIGNAL is what ends it.
start() {
  local name=$1 signal=$2
  shift 2
  setsid "$@" </dev/null >"$stage/$name.log" 2>&1 9>&- &
  echo "$signal $!" >>"$stage/processes"
}

# run COMMAND...: runs it to its end, but it does not outlive this script.
run() {
  local status=0
  "$@" </dev/null 9>&- &
  echo "TERM $!" >>"$stage/processes"
  wait $! || status=$?
  sed -i '$d' "$stage/processes"
  return $status
}

# port ADDRESS: the port of host:port.
port() { echo "${1##*:}"; }

port_is_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# require_free PORT REMEDY
require_free() {
  if port_is_taken "$1"; then die "port $1 is taken: stop what listens there, or $2"; fi
}

free_port() {
  local candidate
  for _ in {1..200}; do
    candidate=$((20000 + RANDOM % 12000))
    if ! port_is_taken "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  die "there is no free port"
}

# wait_ready NAME PORT: until its /ready answers with success; what it misses is said after a while.
wait_ready() {
  local name=$1 admin=$2 process attempt reason='' said=''
  process=$(tail -n 1 "$stage/processes" | cut -d ' ' -f 2)
  for ((attempt = 1; attempt <= READY_SECS * 5; attempt++)); do
    if curl -fs -m 2 -o /dev/null "http://127.0.0.1:$admin/ready"; then return; fi
    if ! kill -0 "$process" 2>/dev/null; then break; fi
    if ((attempt % 15 == 0)); then
      reason=$(curl -s -m 2 "http://127.0.0.1:$admin/ready" || true)
      if [ "$reason" != "$said" ]; then say "$name is not ready yet: $reason"; fi
      said=$reason
    fi
    sleep 0.2
  done
  {
    echo "$name does not become ready. The end of its log:"
    tail -n 30 "$stage/$name.log"
  } >&2
  exit 1
}

# build CARGO-ARGUMENTS...
build() {
  command -v cargo >/dev/null || die "cargo is not there: install a Rust toolchain first"
  say "Building (cargo build --release $*)"
  run cargo build --manifest-path "$root/Cargo.toml" --release "$@" || die "the build has failed"
  built=$(target_dir)/release
}

# Where cargo builds: not always below the checkout.
target_dir() {
  if [ -n "${CARGO_TARGET_DIR:-}" ]; then
    echo "$CARGO_TARGET_DIR"
  else
    cargo metadata --manifest-path "$root/Cargo.toml" --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/'
  fi
}

# Postgres refuses to run as root: what comes before its command lines.
as_postgres=()
if [ "$(id -u)" = 0 ]; then
  postgres_user=nobody
  if id postgres >/dev/null 2>&1; then postgres_user=postgres; fi
  as_postgres=(setpriv "--reuid=$postgres_user" "--regid=$(id -g "$postgres_user")" --clear-groups)
fi

# Starts a private Postgres and sets $database_url.
start_postgres() {
  local bin data=$stage/postgres number
  bin=$(postgres_bin) || die "there is no Postgres server: deploy/install.sh did not do its work"
  number=$(free_port)
  mkdir "$data"
  chmod 700 "$data"
  if [ "$(id -u)" = 0 ]; then chown "$postgres_user:" "$data"; fi
  (cd / && "${as_postgres[@]}" "$bin/initdb" --no-sync --no-instructions -A trust -U postgres -E UTF8 --locale=C.UTF-8 \
    -D "$data/data" >"$stage/initdb.log" 2>&1) || die "initdb has failed: $(tail -n 3 "$stage/initdb.log")"
  start postgres INT env -C / "${as_postgres[@]}" "$bin/postgres" -D "$data/data" -p "$number" -k "$data" \
    -c listen_addresses=127.0.0.1 -c wal_level=logical -c fsync=off
  database_url=postgres://postgres@127.0.0.1:$number/postgres
  for _ in {1..150}; do
    if sql -c 'select 1' >/dev/null 2>&1; then break; fi
    sleep 0.2
  done
  sql -f "$root/deploy/sample.sql" >/dev/null || die "Postgres does not start: $(tail -n 5 "$stage/postgres.log")"
  say "Postgres is at $database_url, with the tables todos and messages"
}

# psql on the database of this stage; fails where there is no psql.
sql() {
  local bin
  bin=$(postgres_bin) || bin=$(dirname "$(command -v psql)") || return 1
  PGOPTIONS='-c client_min_messages=warning' "$bin/psql" -X -q -v ON_ERROR_STOP=1 -d "$database_url" "$@" </dev/null 9>&-
}

# Whether both tables are there and are ours: a reader's own tables of these names are not for our writer.
has_sample_tables() {
  [ "$(sql -At -c "select count(*) from (values ('public.todos'), ('public.messages')) as sample (name)
    where obj_description(to_regclass(name)) = 'sample of Reactor Realtime'" 2>/dev/null)" = 2 ]
}

start_writer() {
  write_forever </dev/null >"$stage/writer.log" 2>&1 9>&- &
  echo "TERM $!" >>"$stage/processes"
}

# Somebody who adds a todo and a message every second, changes the todo before and removes an old one.
write_forever() {
  local round=0
  trap - EXIT INT TERM HUP
  while true; do
    round=$((round + 1))
    sql -v round="$round" -v org="$SAMPLE_ORG" -v owner="$SAMPLE_USER" -f "$root/deploy/writer.sql" || true
    sleep 1
  done
}

# sample_token: a token for the sample user, valid for a day.
sample_token() {
  "$built/reactor" auth token --role authenticated --sub "$SAMPLE_USER" --org "$SAMPLE_ORG" --expires-in 1d
}

# curl_line PORT TOKEN: what a reader can paste.
curl_line() {
  echo "curl -N 'http://localhost:$1/data/v1/todos/subscribe' -H 'Authorization: Bearer $2' -H 'X-Reactor-Org: $SAMPLE_ORG'"
}

# show_events PORT TOKEN PREFIX
show_events() {
  curl -sN "http://127.0.0.1:$1/data/v1/todos/subscribe" -H "Authorization: Bearer $2" -H "X-Reactor-Org: $SAMPLE_ORG" \
    </dev/null 9>&- > >(sed -u "s/^/$3/" 9>&-) &
  echo "TERM $!" >>"$stage/processes"
}
