#!/usr/bin/env bash
# The rules of this repository that neither the compiler nor clippy checks. Prints every breach and fails if there is one.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
breaches=$(mktemp)
trap 'rm -f "$breaches"' EXIT

readonly MAX_FILE_LINES=800
readonly MAX_FUNCTION_LINES=80
# Longer functions that are one flat match or plain wiring: "file function", one a line.
readonly LONG_FUNCTIONS="
"

# breach RULE: reads lines and notes each as a breach of the rule.
breach() {
  sed "s|^|$1: |" >>"$breaches"
}

# Rust files that are not tests; what a generator wrote is not ours to judge.
sources() {
  find crates services cli loadtest proto -name '*.rs' -path '*/src/*' ! -path '*/gen/*' ! -name tests.rs ! -path '*/tests/*' | sort
}

# Production lines end where the tests at the foot begin.
long_files() {
  sources | while read -r file; do
    awk -v file="$file" -v max=$MAX_FILE_LINES '
      /^#\[cfg\(test\)\]$/ { getline following; if (following ~ /^mod .*\{$/) exit }
      { lines++ }
      END { if (lines > max) print file " has " lines " lines, " max " are allowed" }' "$file"
  done
}

# The layout is rustfmt's, so a function ends at the first closing brace of its own depth.
long_functions() {
  sources | while read -r file; do
    awk -v file="$file" -v max=$MAX_FUNCTION_LINES -v allowed="$LONG_FUNCTIONS" '
      /^#\[cfg\(test\)\]$/ { getline following; if (following ~ /^mod .*\{$/) exit }
      !name && match($0, /^ *((pub(\([a-z]+\))?|const|async|extern "C") )*fn [a-z_0-9]+/) {
        depth = match($0, /[^ ]/) - 1
        name = substr($0, 1, RSTART + RLENGTH)
        match($0, /fn [a-z_0-9]+/)
        name = substr($0, RSTART + 3, RLENGTH - 3)
        start = NR
      }
      name && (/^ *\}$/ || /;$/ || /\}$/) {
        at = match($0, /[^ ]/) - 1
        if (at == depth) {
          length_ = NR - start + 1
          if (length_ > max && index(allowed, file " " name "\n") == 0)
            print file ": " name " has " length_ " lines, " max " are allowed"
          name = ""
        }
      }' "$file"
  done
}

# PURE crates have no runtime in their tree. cargo tree succeeds either way, so its output decides.
impure_crates() {
  local package dependency
  for package in reactor-model reactor-protocol reactor-policy-engine; do
    for dependency in tokio async-nats axum; do
      if [ -n "$(cargo tree -p "$package" -e normal -i "$dependency" 2>/dev/null)" ]; then
        echo "$package depends on $dependency"
      fi
    done
  done
}

# A service knows crates, never another service; only the command line program knows all of them.
service_edges() {
  local manifest
  for manifest in crates/*/Cargo.toml services/*/Cargo.toml proto/Cargo.toml; do
    grep -HnE '^reactor-(replicator|gateway|policy)(\.| )' "$manifest" || true
  done
}

# in_sources PATTERN [FILES NOT MEANT]
in_sources() {
  sources | grep -vE "${2:-^$}" | xargs grep -nE "$1" || true
}

bare_sleeps() {
  find crates services cli loadtest proto -path '*/tests/*' -name '*.rs' -print0 |
    xargs -0 -r grep -nE '\bsleep\(' || true
}

unnumbered_notes() {
  git ls-files -co --exclude-standard -- '*.rs' '*.sh' '*.toml' '*.proto' '*.sql' '*.md' |
    grep -vE '^deploy/tidy\.sh$' | xargs -d '\n' grep -snE '\b(TODO|FIXME|XXX)\b' | grep -vE '(TODO|FIXME|XXX)\(#[0-9]+\)' || true
}

# Links from one page of ours to another file of ours.
dead_links() {
  git ls-files -co --exclude-standard -- '*.md' | while read -r page; do
    [ -e "$page" ] || continue
    { grep -oE '\]\([^)# ]+' "$page" || true; } | cut -c 3- | grep -vE '^[a-z]+:' | while read -r target; do
      [ -e "$(dirname "$page")/$target" ] || echo "$page links to $target, which does not exist"
    done || true
  done
}

broken_scripts() {
  local script
  for script in deploy/*.sh .ci/run; do
    bash -n "$script" 2>&1 || true
  done
}

long_files | breach "file too long"
long_functions | breach "function too long"
impure_crates | breach "pure crates have no runtime"
service_edges | breach "services do not depend on services"
in_sources '\basync_nats\b' '^crates/bus/src/nats(\.rs|/)' | breach "only the bus names async_nats"
in_sources '\baxum\b' '^(services/gateway/|crates/runtime/src/admin)' | breach "only the gateway and the admin server name axum"
in_sources '\bunbounded_channel\b' | breach "every channel is bounded"
bare_sleeps | breach "a test uses wait::until, or wait::elapse where time itself is meant"
unnumbered_notes | breach "a note to do something has a number"
dead_links | breach "dead link"
broken_scripts | breach "script"

if [ -s "$breaches" ]; then
  cat "$breaches" >&2
  echo "tidy: $(wc -l <"$breaches") breaches" >&2
  exit 1
fi
echo "tidy: all rules hold"
