#!/usr/bin/env bash
# tests/mutants.sh PART [ARGUMENT OF cargo mutants …]: do the unit tests of the pure files bite?
#
# Makes a copy of this crate that has only one part's pure modules and what they need, so that a mutant takes about two
# seconds, and lets cargo-mutants loose on it (`cargo install cargo-mutants --locked`). The copies and the lists of
# survivors are in target/mutants; tests/mutants.md says what is known of each survivor.
set -euo pipefail
cd "$(dirname "$0")/.."

all="lease simple producer retry pull checkpoint assignment session remoting convert model wire engine"

# Dependencies that no unit test of a pure file needs: the first build is the shorter for it.
unused="anyhow clap criterion indicatif protox rcgen syn proc-macro2 tonic-prost-build tracing-subscriber"

# What a part is: its top-level modules, the pure files of it (patterns), the unit tests that are run (all, if none are
# named), and the shells that are left out.
part() {
  case $1 in
    lease) modules="clock lease transport" files="src/lease/*.rs"
      without lease keeper receipt keeper_tests ;;
    simple) modules="consumer" files="src/consumer/simple/planner.rs src/consumer/rules.rs"
      only consumer/mod.rs rules simple; only consumer/simple/mod.rs planner ;;
    producer) modules="clock producer" files="src/producer/*.rs src/producer/accumulator/*.rs"
      only producer/mod.rs accumulator failure flushes message_id router ;;
    retry) modules="" files="src/retry.rs" ;;
    pull) modules="consumer transport" files="src/consumer/pull/planner.rs src/consumer/pull/planner/*.rs src/consumer/pull/start.rs src/consumer/pull/returns.rs"
      only consumer/mod.rs pull; only consumer/pull/mod.rs planner returns start; echo '#[cfg(test)] mod tests;' >>"$copy/src/consumer/pull/mod.rs"
      only consumer/pull/tests/mod.rs message ;;
    checkpoint) modules="checkpoint clock task transport" 
      files="src/checkpoint/account.rs src/checkpoint/book.rs src/checkpoint/completion.rs src/checkpoint/event.rs"
      files+=" src/checkpoint/book/kept.rs src/checkpoint/book/under_way.rs src/checkpoint/ledger.rs src/checkpoint/tracker.rs src/checkpoint/tracker/*.rs"
      tests="checkpoint::"
      without checkpoint file ;;
    assignment) modules="assignment clock task transport" 
      files="src/assignment/chosen.rs src/assignment/holding.rs src/assignment/round.rs src/assignment/share.rs"
      files+=" src/assignment/strategy.rs src/assignment/strategy/*.rs src/assignment/guard/*.rs"
      without assignment directory ;;
    session) modules="session" files="src/session/*.rs"
      only session/mod.rs choice groups
      sed -n '/^#\[derive(/h; /^pub enum RouteEndpoints/,/^}/{/^pub enum/{x;p;x};p}' src/session/mod.rs >>"$copy/src/session/mod.rs" ;;
    remoting) modules="transport" files="src/transport/remoting/*.rs src/transport/remoting/*/*.rs" wires="auth body remoting"
      tests="transport::remoting" ;;
    convert) modules="proto transport" files="src/transport/grpc/convert/*.rs" wires="auth body grpc"
      tests="convert::" ;;
    model) modules="" files="src/model/*.rs src/error/*.rs" tests="model:: error::" ;;
    wire) modules="transport" files="src/transport/auth.rs src/transport/body.rs" wires="auth body" ;;
    engine) modules="embedded" files="src/embedded/engine/*.rs src/embedded/engine/*/*.rs"
      tests="embedded::engine"
      only embedded/mod.rs engine ;;
    *) echo "no part $1; there are: $all" >&2; exit 2 ;;
  esac
}

# The module file names these modules only.
only() {
  local file=$copy/src/$1; shift
  printf 'pub(crate) mod %s;\n' "$@" >"$file"
}

# The folder's mod.rs loses these modules, and what it re-exports of them.
without() {
  local file=$copy/src/$1/mod.rs name; shift
  for name in "$@"; do
    perl -0pi -e "s/(#\\[cfg\\(test\\)\\]\\n)?(pub(\\(\\w+\\))? )?mod $name;\\n//g; s/(pub(\\(\\w+\\))? )?use $name::[^;]*;\\n//g" "$file"
  done
}

# The copy has a name of its own, or cargo would take one part's tests for those of another: they share a target directory.
trim() {
  local module wire
  mkdir -p "$copy"
  rm -rf "$copy/src"
  cp -r src Cargo.lock "$copy"
  sed -e '/^rocketmq-stream = {/d' -e '/^\[\[bench\]\]/,/^harness/d' -e '/^\[lints/,/^$/d' -e 's/^readme = .*//' -e 's/^bench = false/&\ndoctest = false/' \
    -e "s/^name = \"rocketmq-stream\"/name = \"mutants-$1\"/" -e "/^\[dev-dependencies/,/^\[lib/{/^\(${unused// /\\|}\) =/d}" Cargo.toml >"$copy/Cargo.toml"
  wires="" tests=""
  part "$1"
  for wire in auth body dial grpc remoting tls; do
    [[ " $wires " == *" $wire "* ]] || without transport $wire
  done
  only transport/grpc/mod.rs convert
  only transport/remoting/mod.rs command frame stored
  {
    echo '#![allow(warnings)]'
    for module in error model retry $modules; do echo "pub(crate) mod $module;"; done
    echo 'pub(crate) use error::{Error, Result};'
  } >"$copy/src/lib.rs"
}

name=${1:?one of: $all}
shift
target=${CARGO_TARGET_DIR:-$PWD/target}
copy=$target/mutants/$name
trim "$name"
export CARGO_TARGET_DIR=$target/mutants/target CARGO_INCREMENTAL=1 CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_TEST_DEBUG=0
export PROPTEST_CASES=${PROPTEST_CASES:-32}
cd "$copy"
arguments=()
# The part's files, unless some of them are named.
[[ " $* " == *" --file "* ]] || for file in $files; do arguments+=(--file "$file"); done
# What `Debug` writes is for a person's eyes; where it must hide a secret, a test of that part looks at it.
arguments+=(--exclude-re 'impl (fmt::)?Debug for')
# MUTANT_TIMEOUT: seconds; more of them on a busy machine, where a slow test looks like a loop without its end.
[[ -z ${TRIM_ONLY:-} ]] || exit 0
exec cargo mutants --in-place --no-shuffle --timeout "${MUTANT_TIMEOUT:-20}" "${arguments[@]}" "$@" --no-default-features --features serde -- --lib -- $tests
