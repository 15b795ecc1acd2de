#!/usr/bin/env bash
# Reactor Realtime in one process, with a private Postgres that somebody writes to. Ctrl-C ends all of it.
#
#   REACTOR_DATA_DATABASE_URL   watch this database instead; then nothing is installed or created in it but the
#                               publication (REACTOR_PUBLICATION_CREATE=false: not even that) and the replication slot
#   REACTOR_LISTEN              where clients connect (0.0.0.0:4000)
#   REACTOR_ADMIN_LISTEN        health and metrics (0.0.0.0:4001)
#   REACTOR_JWT_SECRET          what signs the tokens; random by default
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=deploy/lib.sh
. "$root/deploy/lib.sh"
# shellcheck source=deploy/stage.sh
. "$root/deploy/stage.sh"

listen=${REACTOR_LISTEN:-0.0.0.0:4000}
admin=${REACTOR_ADMIN_LISTEN:-0.0.0.0:4001}
database_url=${REACTOR_DATA_DATABASE_URL:-}
own_database=${database_url:+no}
: "${REACTOR_JWT_SECRET:=$(head -c 32 /dev/urandom | base64 | tr -d '=\n')}"
export REACTOR_JWT_SECRET

check_ports() {
  require_free "$(port "$listen")" "start with another address, such as REACTOR_LISTEN=0.0.0.0:4400"
  require_free "$(port "$admin")" "start with another address, such as REACTOR_ADMIN_LISTEN=0.0.0.0:4401"
}

start_reactor() {
  start reactor TERM env REACTOR_PUBLICATION_CREATE="${REACTOR_PUBLICATION_CREATE:-true}" REACTOR_ADMIN_LISTEN="$admin" \
    REACTOR_DATA_DATABASE_URL="$database_url" "$built/reactor" realtime serve --listen "$listen"
  reactor=$!
  wait_ready reactor "$(port "$admin")"
}

explain() {
  local token=$1
  say "Listening on port $(port "$listen"). In another terminal:"
  echo
  echo "  $(curl_line "$(port "$listen")" "$token")"
  echo
  echo "  another user:  REACTOR_JWT_SECRET='$REACTOR_JWT_SECRET' $built/reactor auth token --role authenticated --sub <uuid> --org <org>"
  echo "  write:         psql '$database_url' -c \"insert into todos (org_id, title) values ('$SAMPLE_ORG', 'mine')\""
  echo "  health:        curl http://localhost:$(port "$admin")/ready"
  echo
}

explain_other_database() {
  local token=$1
  say "Listening on port $(port "$listen"), watching your database. It has no sample tables, so nothing is written to it."
  echo
  echo "  curl -N 'http://localhost:$(port "$listen")/data/v1/<table>/subscribe' -H 'Authorization: Bearer $token' -H 'X-Reactor-Org: $SAMPLE_ORG'"
  echo
  echo "The role of this token, authenticated, needs SELECT on the table. To have the sample tables and start again:"
  echo
  echo "  psql \"\$REACTOR_DATA_DATABASE_URL\" -f deploy/sample.sql"
  echo
}

check_ports
if [ -n "$own_database" ]; then
  "$root/deploy/install.sh" base
else
  "$root/deploy/install.sh" demo
fi
open_stage demo
build -p reactor-cli
check_ports
if [ -z "$own_database" ]; then start_postgres; fi
start_reactor
token=$(sample_token)
if has_sample_tables; then
  explain "$token"
  say "Its events, while a writer changes the tables every second (Ctrl-C ends everything):"
  show_events "$(port "$listen")" "$token" ""
  start_writer
else
  explain_other_database "$token"
fi
if [ -n "$own_database" ]; then
  echo "The replication slot reactor_… stays in your database and keeps its WAL. When you are done with it:"
  echo "  select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name like 'reactor\\_%' and not active;"
fi
wait "$reactor" || true
tail -n 20 "$stage/reactor.log" >&2
die "reactor has ended by itself"
