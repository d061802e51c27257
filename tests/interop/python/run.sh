#!/usr/bin/env bash
# Makes a virtual environment once in the test cache, and runs interop.py in it:
# run.sh send --endpoint 127.0.0.1:8081 --topic orders --count 3
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${ROCKETMQ_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rocketmq-stream-tests}
made=$cache/interop-python-$(cksum < "$here/requirements.txt" | cut -d' ' -f1)

die() { echo "interop/python/run.sh: $*" >&2; exit 2; }

# A virtual environment cannot be moved, so it is made in place, and `ready` says that it is whole.
if [ ! -f "$made/ready" ]; then
  command -v python3 > /dev/null || die "python3 is missing: 3.9 or later is needed"
  mkdir -p "$cache"
  until mkdir "$made.lock" 2> /dev/null; do
    [ $SECONDS -lt 300 ] || die "another process has been making $made for 300 s; if there is none, remove $made.lock"
    sleep 1
  done
  trap 'rmdir "$made.lock"' EXIT
  if [ ! -f "$made/ready" ]; then
    python3 -m venv --clear "$made" >&2 || die "python3 -m venv failed (on Debian it is in the package python3-venv)"
    "$made/bin/python" -m pip install -q --disable-pip-version-check -r "$here/requirements.txt" >&2 ||
      die "pip could not install what $here/requirements.txt names"
    touch "$made/ready"
  fi
  rmdir "$made.lock"
  trap - EXIT
fi
[ "${1:-}" != build ] || exit 0

# The client writes its log below HOME.
HOME=$made PYTHONDONTWRITEBYTECODE=1 exec "$made/bin/python" "$here/interop.py" "$@"
