#!/usr/bin/env bash
# Runs a real Apache RocketMQ (name server, broker, proxy in CLUSTER mode) on this machine, for tests. See README.md.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${ROCKETMQ_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rocketmq-stream-tests}
work=${ROCKETMQ_TEST_WORKDIR:-$cache/cluster}

usage() {
  cat <<'TEXT'
usage: cluster.sh [-w WORKDIR] COMMAND

  run -- CMD...      start a server, run CMD with its addresses in the environment, stop; exits as CMD does
  start              start a server with an empty store and print its addresses (they are in WORKDIR/env too)
  stop [--graceful]  stop everything; the store is thrown away at the next start. Nothing to stop is no error
  status             say which processes run; exit code 0 if all of them do
  env                print the addresses of the server in WORKDIR
  start NODE         start one stopped process again: same ports, same store, configuration written anew
  stop NODE          stop one process as an administrator would (TERM, waited for)
  kill NODE          stop one process as a crash would (KILL)
  admin ARGUMENT...  the server's own mqadmin, told where the name server is: admin updateTopic -c DefaultCluster -t orders
  fetch              only fetch the jars into the cache

  move broker-a      start it again, stopped before, at another port with the same store: what a new machine with its
                     disk looks like. It stays there until it is moved again

NODE is namesrv, broker-a, broker-a-slave, broker-b or proxy.

environment:
  ROCKETMQ_TEST_CACHE    where jars are kept; default ${XDG_CACHE_HOME:-~/.cache}/rocketmq-stream-tests
  ROCKETMQ_TEST_WORKDIR  as -w; default CACHE/cluster, for `run` a new folder that is removed afterwards
  BROKERS                1 or 2 (default 1)
  SLAVE                  1: broker-a has a slave, broker-a-slave; in place of broker-b
  PROXY                  0: no proxy
  ACL                    1: brokers and proxy ask who calls, and whether it may. ADMIN_ACCESS_KEY and ADMIN_SECRET_KEY may all
  TLS                    1: every port speaks TLS too, with a certificate of the authority in TLS_CA (needs openssl)
  PORT_BASE              first of 12 neighbouring ports to use; default: found free
  BROKER_PROPERTIES      lines to add to each broker's configuration
  PROXY_PROPERTIES       JSON members to add to the proxy's configuration, such as "enableACL":true,"x":1
  START_TIMEOUT          seconds each process may take to start (default 60)
  MEASURE                1: heaps, compiler, collector and files as in production, for figures worth quoting (5 GB of memory)
TEXT
}

say() { echo "cluster.sh: $*" >&2; }
die() { say "$*"; exit 1; }

# ---- jars ----------------------------------------------------------------------------------------------------------

require_java() {
  command -v java > /dev/null || die "java is missing: install a Java runtime, 11 or later"
  local version
  version=$(java -XshowSettings:properties -version 2>&1 | sed -n 's/.*java.specification.version = //p')
  [ "${version%%.*}" -ge 11 ] || die "java is version $version: RocketMQ 5.5 needs 11 or later"
}

# The folder is named by the pom's checksum, so a changed version is fetched and an old one is left to other checkouts.
fetch_jars() {
  lib=$cache/server-$(cksum < "$here/pom.xml" | cut -d' ' -f1)
  [ -d "$lib" ] && return
  command -v mvn > /dev/null || die "mvn (Apache Maven) is missing: it fetches the released jars of RocketMQ"
  say "fetching the jars of RocketMQ into $lib"
  mkdir -p "$cache"
  fresh=$(mktemp -d "$cache/fetch.XXXXXX")
  trap 'rm -rf "$fresh"' EXIT
  mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$fresh" >&2 ||
    die "mvn could not fetch the jars named in $here/pom.xml"
  # Two at once: the second one's work is thrown away.
  if [ ! -d "$lib" ]; then mv "$fresh" "$lib"; fi
  rm -rf "$fresh"
  trap - EXIT
}

# ---- processes -----------------------------------------------------------------------------------------------------

brokers() {
  echo broker-a
  [ -z "${SLAVE:-}" ] || echo broker-a-slave
  [ "${BROKERS:-1}" -lt 2 ] || echo broker-b
}

has_proxy() { [ "${PROXY:-1}" != 0 ]; }

nodes() {
  echo namesrv "$(brokers)"
  ! has_proxy || echo proxy
}

all_nodes_reversed() { echo proxy broker-b broker-a-slave broker-a namesrv; }

check_node() {
  case $1 in
    namesrv | broker-a | broker-a-slave | broker-b | proxy) ;;
    *) die "there is no node '$1': say namesrv, broker-a, broker-a-slave, broker-b or proxy" ;;
  esac
}

command_line() {
  if [ -r /proc/self/cmdline ]; then
    { tr '\0' ' ' < "/proc/$1/cmdline"; } 2> /dev/null || true
  else
    ps -ww -p "$1" -o args= 2> /dev/null || true
  fi
}

# Prints the process id of a running node. A number that now belongs to another process, or to a zombie, is not it.
pid_of() {
  local pid
  pid=$(cat "$work/$1/pid" 2> /dev/null) || return 1
  [[ $(command_line "$pid") == *"-Duser.home=$work/$1 "* ]] || return 1
  echo "$pid"
}

end_node() { # node signal seconds
  local pid tenths=0
  pid=$(pid_of "$1") || return 0
  kill "-$2" "$pid" 2> /dev/null || true
  while pid_of "$1" > /dev/null; do
    sleep .1
    tenths=$((tenths + 1))
    if [ $tenths -ge $(($3 * 10)) ]; then
      [ "$2" != KILL ] || die "$1 (process $pid) cannot be killed"
      say "$1 did not stop within $3 s: killing it"
      end_node "$1" KILL 10
      return
    fi
  done
}

stop_all() { # signal
  local node
  for node in $(all_nodes_reversed); do end_node "$node" "$1" 60; done
}

# ---- ports and configuration -----------------------------------------------------------------------------------------

port_is_free() { ! (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null; }

block_is_free() {
  local port
  for ((port = $1; port < $1 + 12; port++)); do port_is_free "$port" || return 1; done
}

# Below 32768, where Linux starts to hand out ports to outgoing connections.
choose_ports() {
  if [ -n "${PORT_BASE:-}" ]; then
    block_is_free "$PORT_BASE" || die "ports $PORT_BASE to $((PORT_BASE + 11)) are not all free"
    return
  fi
  for _ in {1..50}; do
    PORT_BASE=$((20000 + RANDOM % 1000 * 12))
    ! block_is_free "$PORT_BASE" || return 0
  done
  die "found no 12 free neighbouring ports; set PORT_BASE"
}

# A broker takes three: port-2 ("fast remoting", which cannot be told otherwise), port, and one for replication. Of the
# block 0 to 2 are the name server's and the proxy's, and broker-a moves between 6 and 5.
broker_port() {
  case $1 in
    broker-a) echo $((PORT_BASE + $MASTER_OFFSET)) ;;
    broker-a-slave | broker-b) echo $((PORT_BASE + 10)) ;;
  esac
}

replication_port() { case $1 in broker-a) echo $((PORT_BASE + 7)) ;; *) echo $((PORT_BASE + 11)) ;; esac; }

write_settings() {
  {
    echo "export NAME_SERVER=127.0.0.1:$PORT_BASE"
    echo "export ACCESS_POINT=127.0.0.1:$((PORT_BASE + 1))"
    echo "export PROXY_REMOTING=127.0.0.1:$((PORT_BASE + 2))"
    echo "export BROKER=127.0.0.1:$(broker_port broker-a)"
    [ "${BROKERS:-1}" -lt 2 ] || echo "export BROKER_B=127.0.0.1:$(broker_port broker-b)"
    [ -z "${SLAVE:-}" ] || echo "export SLAVE_BROKER=127.0.0.1:$(broker_port broker-a-slave)"
    [ -z "${ACL:-}" ] || echo "export ADMIN_ACCESS_KEY=$admin_access_key ADMIN_SECRET_KEY=$admin_secret_key"
    [ -z "${TLS:-}" ] || printf 'export TLS_CA=%q\n' "$work/tls/authority.pem"
    printf 'export ROCKETMQ_TEST_WORKDIR=%q\n' "$work"
    printf 'export CLUSTER_SH=%q\n' "$here/cluster.sh"
  } > "$work/env"
  # What `start NODE` needs to start a process with the same configuration later.
  {
    echo "PORT_BASE=$PORT_BASE"
    echo "BROKERS=${BROKERS:-1}"
    echo "SLAVE=${SLAVE:-} PROXY=${PROXY:-1} ACL=${ACL:-} TLS=${TLS:-} MEASURE=${MEASURE:-}"
    echo "MASTER_OFFSET=$MASTER_OFFSET"
    printf 'BROKER_PROPERTIES=%q\n' "${BROKER_PROPERTIES:-}"
    printf 'PROXY_PROPERTIES=%q\n' "${PROXY_PROPERTIES:-}"
  } > "$work/settings"
}

configure_namesrv() {
  printf '%s\n' "listenPort=$PORT_BASE" 'bindAddress=127.0.0.1' > "$work/namesrv/conf"
}

# Small files so that a test's store takes little room; the server's own sizes where speed is measured.
file_sizes() {
  [ -n "${MEASURE:-}" ] || printf '%s\n' mappedFileSizeCommitLog=33554432 mappedFileSizeConsumeQueue=300000
}

# A slave has its master's name, and a number of its own. Where its master is it learns when it registers.
identity() { # node
  case $1 in
    broker-a-slave)
      printf '%s\n' brokerName=broker-a brokerId=1 brokerRole=SLAVE slaveReadEnable=true registerNameServerPeriod=10000
      ;;
    *) printf '%s\n' "brokerName=$1" brokerId=0 ;;
  esac
}

configure_broker() { # node
  cat > "$work/$1/conf" <<TEXT
brokerClusterName=DefaultCluster
$(identity "$1")
brokerIP1=127.0.0.1
brokerIP2=127.0.0.1
bindAddress=127.0.0.1
listenPort=$(broker_port "$1")
haListenPort=$(replication_port "$1")
namesrvAddr=127.0.0.1:$PORT_BASE
storePathRootDir=$work/$1/store
storePathCommitLog=$work/$1/store/commitlog
$(file_sizes)
diskMaxUsedSpaceRatio=95
autoCreateTopicEnable=false
enablePropertyFilter=true
recallMessageEnable=true
enableMixedMessageType=true
enableLmq=true
enableMultiDispatch=true
transactionTimeOut=1000
transactionCheckInterval=1000
$(broker_acl "$1")
${BROKER_PROPERTIES:-}
TEXT
}

# The first user, whom the server knows when its store is empty, and as whom its parts talk to each other.
admin_access_key=admin admin_secret_key=admin-secret

broker_acl() { # node
  [ -n "${ACL:-}" ] || return 0
  cat <<TEXT
authenticationEnabled=true
authenticationProvider=org.apache.rocketmq.auth.authentication.provider.DefaultAuthenticationProvider
authenticationMetadataProvider=org.apache.rocketmq.auth.authentication.provider.LocalAuthenticationMetadataProvider
authorizationEnabled=true
authorizationProvider=org.apache.rocketmq.auth.authorization.provider.DefaultAuthorizationProvider
authorizationMetadataProvider=org.apache.rocketmq.auth.authorization.provider.LocalAuthorizationMetadataProvider
authConfigPath=$work/$1/auth
initAuthenticationUser={"username":"$admin_access_key","password":"$admin_secret_key"}
innerClientAuthenticationCredentials={"accessKey":"$admin_access_key","secretKey":"$admin_secret_key"}
TEXT
}

# What the proxy knows of users and rights it has from the brokers. Without its hook it signs nothing, and cannot start.
proxy_acl() {
  [ -n "${ACL:-}" ] || return 0
  cat <<TEXT
,
  "authenticationEnabled": true,
  "authenticationProvider": "org.apache.rocketmq.auth.authentication.provider.DefaultAuthenticationProvider",
  "authenticationMetadataProvider": "org.apache.rocketmq.proxy.auth.ProxyAuthenticationMetadataProvider",
  "authorizationEnabled": true,
  "authorizationProvider": "org.apache.rocketmq.auth.authorization.provider.DefaultAuthorizationProvider",
  "authorizationMetadataProvider": "org.apache.rocketmq.proxy.auth.ProxyAuthorizationMetadataProvider",
  "innerClientAuthenticationCredentials": "{\"accessKey\":\"$admin_access_key\",\"secretKey\":\"$admin_secret_key\"}",
  "enableAclRpcHookForClusterMode": true,
  "userCacheRefreshSecond": 1,
  "aclCacheRefreshSecond": 1
TEXT
}

proxy_tls() {
  [ -n "${TLS:-}" ] || return 0
  printf ',\n  "tlsTestModeEnable": false,\n  "tlsKeyPath": "%s",\n  "tlsCertPath": "%s"\n' \
    "$work/tls/server.key" "$work/tls/server.pem"
}

# Plaintext is served beside it: that is how the parts of the server talk to each other, and mqadmin to them.
tls_options() {
  [ -n "${TLS:-}" ] || return 0
  echo "-Dtls.test.mode.enable=false -Dtls.server.keyPath=$work/tls/server.key -Dtls.server.certPath=$work/tls/server.pem"
}

# An authority of this server alone, and a certificate of it for this machine.
make_certificates() {
  [ -n "${TLS:-}" ] || return 0
  command -v openssl > /dev/null || die "openssl is missing: TLS=1 makes certificates with it"
  rm -rf "$work/tls"
  mkdir -p "$work/tls"
  (
    cd "$work/tls"
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=authority of a test" \
      -keyout authority.key -out authority.pem
    openssl req -newkey rsa:2048 -nodes -subj "/CN=localhost" -keyout server.key -out server.csr
    openssl x509 -req -in server.csr -CA authority.pem -CAkey authority.key -CAcreateserial -days 2 -out server.pem \
      -extfile <(echo "subjectAltName=DNS:localhost,IP:127.0.0.1")
  ) > "$work/tls.out" 2>&1 || die "openssl failed: see $work/tls.out"
}

# One second instead of twenty: what a test creates is seen at once.
configure_proxy() {
  cat > "$work/proxy/conf" <<TEXT
{
  "rocketMQClusterName": "DefaultCluster",
  "proxyMode": "CLUSTER",
  "namesrvAddr": "127.0.0.1:$PORT_BASE",
  "localServeAddr": "127.0.0.1",
  "grpcServerPort": $((PORT_BASE + 1)),
  "remotingListenPort": $((PORT_BASE + 2)),
  "topicConfigCacheRefreshSeconds": 1,
  "topicRouteServiceCacheRefreshSeconds": 1,
  "subscriptionGroupConfigCacheRefreshSeconds": 1${PROXY_PROPERTIES:+, $PROXY_PROPERTIES}$(proxy_acl)$(proxy_tls)
}
TEXT
}

# ---- start -----------------------------------------------------------------------------------------------------------

# For tests: a quick start and little heap. For measuring: what a server of that size would be given. Each of a broker's
# threads that ever stored something keeps a direct buffer of 4 MiB, and there are about 80 of them: with less room than
# that, its revive service fails for ever, and what was nacked, released or left unsettled does not come again.
java_options() { # node
  if [ -z "${MEASURE:-}" ]; then
    echo "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xss512k"
    case $1 in
      namesrv) echo "-Xmx64m" ;;
      broker-*) echo "-Xmx320m -XX:MaxDirectMemorySize=1g" ;;
      proxy) echo "-Xmx192m -XX:MaxDirectMemorySize=256m" ;;
    esac
  else
    case $1 in
      namesrv) echo "-Xms128m -Xmx256m" ;;
      broker-*) echo "-XX:+UseG1GC -Xms2g -Xmx2g -XX:MaxDirectMemorySize=2g" ;;
      proxy) echo "-XX:+UseG1GC -Xms1g -Xmx2g -XX:MaxDirectMemorySize=1g" ;;
    esac
  fi
}

# `set -m` gives the process a group of its own: a Ctrl-C meant for us does not end it behind our back.
launch() { # node java-arguments...
  local node=$1 tries=0 options
  shift
  read -r -d '' -a options < <(java_options "$node"; tls_options) || true
  (
    # A Ctrl-C between the two last lines would leave a process that nobody knows of.
    trap : INT TERM HUP
    set -m
    cd "$work/$node"
    : > out
    ROCKETMQ_HOME=$work/$node java -Duser.home="$work/$node" -Drocketmq.log.root.level=WARN \
      -Djava.net.preferIPv4Stack=true "${options[@]}" \
      --add-exports=java.base/jdk.internal.ref=ALL-UNNAMED --add-exports=java.base/sun.nio.ch=ALL-UNNAMED \
      --add-opens=java.base/java.nio=ALL-UNNAMED --add-opens=java.base/sun.nio.ch=ALL-UNNAMED \
      --add-opens=java.base/java.lang=ALL-UNNAMED -cp "$lib/*" "$@" > out 2>&1 < /dev/null &
    echo $! > pid
  )
  # For a moment the process is a copy of this script, which pid_of does not take for the node.
  until pid_of "$node" > /dev/null || [ $tries -ge 50 ]; do
    kill -0 "$(cat "$work/$node/pid")" 2> /dev/null || break
    sleep .02
    tries=$((tries + 1))
  done
}

await_line() { # node text
  local node=$1 tenths=0
  until grep -qi "$2" "$work/$node/out"; do
    pid_of "$node" > /dev/null || failed "$node" "$node ended while starting"
    sleep .1
    tenths=$((tenths + 1))
    [ $tenths -lt $((${START_TIMEOUT:-60} * 10)) ] || failed "$node" "$node did not start within ${START_TIMEOUT:-60} s"
  done
}

failed() { # node reason
  tail -n 40 "$work/$1/out" >&2
  end_node "$1" KILL 10
  die "$2 (its output is above, its logs are in $work/$1/logs)"
}

# The configuration is written for every start: a broker overwrites its own when an administrator changes a value.
launch_node() { # node
  local node=$1
  ! pid_of "$node" > /dev/null || die "$node runs already"
  mkdir -p "$work/$node"
  case $node in
    namesrv)
      configure_namesrv
      launch namesrv org.apache.rocketmq.namesrv.NamesrvStartup -c "$work/namesrv/conf"
      ;;
    broker-*)
      configure_broker "$node"
      launch "$node" org.apache.rocketmq.broker.BrokerStartup -c "$work/$node/conf"
      ;;
    proxy)
      configure_proxy
      launch proxy org.apache.rocketmq.proxy.ProxyStartup -pc "$work/proxy/conf"
      ;;
  esac
}

await_node() { # node
  case $1 in
    namesrv | broker-*) await_line "$1" 'boot success' ;;
    proxy) await_line proxy 'startup successfully' ;;
  esac
}

start_all() {
  local node
  for node in $(all_nodes_reversed); do
    ! pid_of "$node" > /dev/null || die "$node of $work runs already: stop it first, or choose another folder with -w"
  done
  choose_ports
  MASTER_OFFSET=6
  mkdir -p "$work"
  rm -f "$work/env" "$work/settings"
  for node in $(all_nodes_reversed); do rm -rf "${work:?}/$node"; done
  write_settings
  make_certificates
  # One kind after the other: a broker registers once and then only every half minute, and a proxy without a broker ends.
  launch_node namesrv
  await_node namesrv
  for node in $(brokers); do launch_node "$node"; done
  for node in $(brokers); do await_node "$node"; done
  ! has_proxy || start_proxy
}

# On a busy machine the name server may show the broker a moment after the broker says that it has started; a proxy that
# asks before ends. So it is started again, twice at most.
start_proxy() {
  local try tenths
  for try in 1 2; do
    launch_node proxy
    tenths=0
    until grep -qi 'startup successfully' "$work/proxy/out" || ! pid_of proxy > /dev/null || [ $tenths -ge 600 ]; do
      sleep .1
      tenths=$((tenths + 1))
    done
    if pid_of proxy > /dev/null; then break; fi
    echo "cluster.sh: the proxy ended while starting (try $try); again" >&2
    sleep 2
  done
  pid_of proxy > /dev/null || launch_node proxy
  await_node proxy
}

# The settings remember the port.
move() { # node
  [ "$1" = broker-a ] || die "only broker-a can be moved"
  load_settings
  ! pid_of "$1" > /dev/null || die "$1 runs: stop or kill it first"
  MASTER_OFFSET=$((11 - $MASTER_OFFSET))
  write_settings
  launch_node "$1"
  await_node "$1"
}

# ---- commands --------------------------------------------------------------------------------------------------------

# On every way out that is not success, what was started is ended too.
end_on_failure() {
  trap 'code=$?; trap "" INT TERM HUP; [ $code -eq 0 ] || stop_all KILL; exit $code' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  trap 'exit 129' HUP
}

load_settings() {
  [ -f "$work/settings" ] || die "no server was started in $work"
  # shellcheck disable=SC1091
  . "$work/settings"
}

# What `bin/mqadmin` of a distribution runs. It ends with 0 also when it could not do it, and then says why.
admin() {
  [ $# -gt 0 ] || die "admin needs a command of mqadmin, for example: admin topicList"
  local verb=$1 said
  shift
  load_settings
  mkdir -p "$work/admin/conf"
  # Where mqadmin looks for whom to act as.
  [ -z "${ACL:-}" ] ||
    printf '%s\n' "accessKey: $admin_access_key" "secretKey: $admin_secret_key" > "$work/admin/conf/tools.yml"
  said=$(ROCKETMQ_HOME=$work/admin java -Duser.home="$work/admin" -Drocketmq.log.root.level=WARN -Xmx64m -XX:+UseSerialGC \
    -XX:TieredStopAtLevel=1 -cp "$lib/*" org.apache.rocketmq.tools.command.MQAdminStartup "$verb" -n "127.0.0.1:$PORT_BASE" "$@")
  echo "$said"
  case $said in *Exception* | *"not exist"*) return 1 ;; esac
}

status() {
  local node pid all=0
  load_settings
  for node in $(nodes); do
    if pid=$(pid_of "$node"); then echo "$node runs (process $pid)"; else echo "$node is stopped"; all=1; fi
  done
  return $all
}

# A server in need of memory goes on, and fails tests far from the cause.
out_of_memory() {
  local log
  for log in $(grep -rls --include='*.log' --include=out OutOfMemoryError "$work" || true); do
    say "the server ran out of memory: see $log"
  done
}

run() {
  [ $# -gt 0 ] || die "run needs a command: cluster.sh run -- CMD..."
  throw_away='' command_pid=''
  if [ -z "${chosen_work:-}" ]; then
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/run.XXXXXX")
    throw_away=1
  fi
  trap 'code=$?; trap "" INT TERM HUP
    [ -z "$command_pid" ] || kill -TERM -- "-$command_pid" 2> /dev/null || true
    stop_all KILL
    out_of_memory
    if [ -n "$throw_away" ]; then
      case $code in
        0 | 129 | 130 | 143) rm -rf "$work" ;;
        *) rm -rf "$work"/*/store; say "logs are kept in $work" ;;
      esac
    fi
    exit $code' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  trap 'exit 129' HUP
  start_all
  # shellcheck disable=SC1091
  . "$work/env"
  say "ready after $SECONDS s; running: $*"
  # A group of its own, so that everything the command started can be ended with it.
  set -m
  "$@" < /dev/null &
  command_pid=$!
  set +m
  code=0
  wait "$command_pid" || code=$?
  command_pid=
  exit "$code"
}

chosen_work=${ROCKETMQ_TEST_WORKDIR:-}
if [ "${1:-}" = -w ]; then
  [ -n "${2:-}" ] || die "-w needs a folder"
  work=$2 chosen_work=$2
  shift 2
fi
# A server is recognised by its folder's name in the command line, so that must not depend on who asks from where.
case $work in /*) ;; *) work=$PWD/$work ;; esac

command=${1:-help}
[ $# -eq 0 ] || shift
node=${1:-}
case $command in
  run)
    [ "$node" != -- ] || shift
    require_java
    fetch_jars
    run "$@"
    ;;
  start)
    [ -z "$node" ] || check_node "$node"
    require_java
    fetch_jars
    if [ -n "$node" ]; then
      load_settings
      launch_node "$node"
      await_node "$node"
    else
      end_on_failure
      start_all
      cat "$work/env"
    fi
    ;;
  stop)
    case $node in
      '') stop_all KILL ;;
      --graceful) stop_all TERM ;;
      *) check_node "$node"; end_node "$node" TERM 60 ;;
    esac
    ;;
  move)
    require_java
    fetch_jars
    move "$node"
    ;;
  kill)
    [ -n "$node" ] || die "kill needs a node: namesrv, broker-a, broker-a-slave, broker-b or proxy"
    check_node "$node"
    end_node "$node" KILL 10
    ;;
  status) status ;;
  env) load_settings; cat "$work/env" ;;
  admin) require_java; fetch_jars; admin "$@" ;;
  fetch) require_java; fetch_jars; echo "$lib" ;;
  help | -h | --help) usage ;;
  *) usage >&2; die "unknown command '$command'" ;;
esac
