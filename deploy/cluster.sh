#!/usr/bin/env bash
# A cluster on one machine: nats-server, replicator, policy and two gateways, with the demo's Postgres and writer.
# Ctrl-C ends all of it.
#
#   gateways 4000 and 4010 (admin 4001, 4011) · replicator admin 4021 · policy 4100 (admin 4031)
#
#   REACTOR_DATA_DATABASE_URL   watch this database instead of a private one
#   REACTOR_JWT_SECRET          what signs the tokens; random by default
#   REACTOR_CLUSTER_PORT_OFFSET added to each of the ports above (0)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=deploy/lib.sh
. "$root/deploy/lib.sh"
# shellcheck source=deploy/stage.sh
. "$root/deploy/stage.sh"

offset=${REACTOR_CLUSTER_PORT_OFFSET:-0}
gateway1=$((4000 + offset)) gateway1_admin=$((4001 + offset))
gateway2=$((4010 + offset)) gateway2_admin=$((4011 + offset))
replicator_admin=$((4021 + offset))
policy=$((4100 + offset)) policy_admin=$((4031 + offset))
database_url=${REACTOR_DATA_DATABASE_URL:-}
own_database=${database_url:+no}
tenant=${REACTOR_TENANT:-default}
: "${REACTOR_JWT_SECRET:=$(head -c 32 /dev/urandom | base64 | tr -d '=\n')}"
export REACTOR_JWT_SECRET
# Each part gets its own below, and a gateway never sees the database.
unset REACTOR_DATA_DATABASE_URL REACTOR_LISTEN REACTOR_ADMIN_LISTEN

check_ports() {
  local number
  for number in $gateway1 $gateway1_admin $gateway2 $gateway2_admin $replicator_admin $policy $policy_admin; do
    require_free "$number" "move all ports with REACTOR_CLUSTER_PORT_OFFSET=1000"
  done
}

start_nats() {
  local number=4222
  if port_is_taken $number; then number=$(free_port); fi
  nats_url=nats://127.0.0.1:$number
  start nats KILL "$TOOLS/nats-server" -a 127.0.0.1 -p "$number" -js -sd "$stage/nats"
  for _ in {1..100}; do
    if port_is_taken "$number"; then
      say "nats-server is at $nats_url"
      return
    fi
    sleep 0.1
  done
  die "nats-server does not start: $(tail -n 5 "$stage/nats.log")"
}

# service NAME PROGRAM ADMIN-PORT VARIABLES...
service() {
  local name=$1 program=$2 admin=$3
  shift 3
  start "$name" TERM env REACTOR_TENANT="$tenant" REACTOR_ADMIN_LISTEN="0.0.0.0:$admin" "$@" "$built/$program"
  services+=("$!")
  wait_ready "$name" "$admin"
  say "$name is ready (http://localhost:$admin/ready)"
}

start_gateway() {
  service "$1" reactor-gateway "$3" REACTOR_LISTEN="0.0.0.0:$2" REACTOR_NATS_URL="$nats_url" \
    REACTOR_POLICY_URL="http://127.0.0.1:$policy" REACTOR_JWT_SECRET="$REACTOR_JWT_SECRET"
}

explain() {
  local token=$1
  say "Two gateways are listening. In another terminal:"
  echo
  echo "  $(curl_line $gateway1 "$token")"
  echo "  $(curl_line $gateway2 "$token")"
  echo
  echo "  write:  psql '$database_url' -c \"insert into todos (org_id, title) values ('$SAMPLE_ORG', 'mine')\""
  echo "  logs:   $stage/*.log"
  echo
}

check_ports
"$root/deploy/install.sh" cluster
open_stage cluster
build -p reactor-cli -p reactor-replicator -p reactor-policy -p reactor-gateway
check_ports
if [ -z "$own_database" ]; then start_postgres; fi
start_nats
services=()
service replicator reactor-replicator $replicator_admin REACTOR_DATA_DATABASE_URL="$database_url" \
  REACTOR_NATS_URL="$nats_url" REACTOR_PUBLICATION_CREATE="${REACTOR_PUBLICATION_CREATE:-true}"
service policy reactor-policy $policy_admin REACTOR_DATA_DATABASE_URL="$database_url" REACTOR_POLICY_LISTEN="0.0.0.0:$policy"
start_gateway gateway1 $gateway1 $gateway1_admin
start_gateway gateway2 $gateway2 $gateway2_admin
token=$(sample_token)
explain "$token"
if has_sample_tables; then
  say "The events of both, while a writer changes the tables every second (Ctrl-C ends everything):"
  show_events $gateway1 "$token" "$gateway1 | "
  show_events $gateway2 "$token" "$gateway2 | "
  start_writer
else
  say "That database has no sample tables (psql -f deploy/sample.sql makes them), so nothing is written to it."
fi
# A service that is killed here is missed by nobody but its clients, so the rest goes on.
for service in "${services[@]}"; do
  wait "$service" || true
  say "one of the services has ended; the others go on (logs: $stage/*.log)"
done
die "all services have ended"
