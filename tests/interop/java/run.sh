#!/usr/bin/env bash
# Builds Interop.java once into the test cache, and runs it: run.sh send --endpoint 127.0.0.1:8081 --topic orders --count 3
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${ROCKETMQ_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rocketmq-stream-tests}
built=$cache/interop-java-$(cat "$here/pom.xml" "$here/Interop.java" | cksum | cut -d' ' -f1)

die() { echo "interop/java/run.sh: $*" >&2; exit 2; }

if [ ! -d "$built" ]; then
  for tool in java javac mvn; do
    command -v $tool > /dev/null || die "$tool is missing: a JDK, 11 or later, and Apache Maven are needed"
  done
  mkdir -p "$cache"
  fresh=$(mktemp -d "$cache/build.XXXXXX")
  trap 'rm -rf "$fresh"' EXIT
  mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$fresh/lib" >&2 ||
    die "mvn could not fetch the jars named in $here/pom.xml"
  javac --release 11 -d "$fresh/classes" -cp "$fresh/lib/*" "$here/Interop.java" >&2
  # Two builders at once: the second one's work is thrown away.
  if [ ! -d "$built" ]; then mv "$fresh" "$built"; fi
  rm -rf "$fresh"
  trap - EXIT
fi
[ "${1:-}" != build ] || exit 0

main=Interop
jars="$built/lib/*"
if [ "${1:-}" = mqadmin ]; then
  main=org.apache.rocketmq.tools.command.MQAdminStartup
  shift
else
  # The gRPC client has the protocol's classes of its own inside; the tools bring others of the same name.
  jars=$(echo "$built"/lib/rocketmq-client-java-*.jar):$jars
fi

# Both clients write logs below user.home; the two last options keep them short.
exec java -Duser.home="$built" -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.net.preferIPv4Stack=true \
  -Drocketmq.log.level=WARN -Drocketmq.log.root.level=WARN -cp "$built/classes:$jars" "$main" "$@"
