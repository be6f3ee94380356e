#!/bin/sh
# The forwarder beside its peers: same upstream, same load generator, same run. What is not installed is left out, and said.
#
#   bench/dns/run.sh [SECONDS] [ROUNDS]       needs dnsmasq and dnsperf (Debian: dnsmasq-base, dnsperf); unbound if it is there
#
# Every candidate is measured ROUNDS times in turn, so that a machine that is busy is busy for all; the median is printed.
# Two cores: dnsperf and the upstream share the second, the candidate has the first for itself.
set -eu
seconds=${1:-3} rounds=${2:-3}
root=$(cd "$(dirname "$0")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
(cd "$root" && cargo build -q --release -p narrowgate-forwarder --examples)
program=$target/release/examples/forward relay=$target/release/examples/relay
work=$(mktemp -d)
pids=
cleanup() { for pid in $pids; do kill "$pid" 2>/dev/null || true; done; rm -rf "$work"; }
trap cleanup EXIT
trap 'exit 130' INT TERM
need() { command -v "$1" >/dev/null || { echo "$0: $1 is needed: apt-get install $2" >&2; exit 1; }; }
need dnsmasq dnsmasq-base
need dnsperf dnsperf
if [ "$(nproc)" -gt 1 ]; then first="taskset -c 0" second="taskset -c 1"; else first= second=; fi
base=$((20000 + $$ % 20000))
start() { "$@" >>"$work/log" 2>&1 & pids="$pids $!"; last=$!; }

upstream=127.0.0.1:$base
start $second dnsmasq -k -C /dev/null --pid-file -p $base --listen-address=127.0.0.1 --bind-interfaces -R --no-hosts \
  --local=/example/ --address=/vpn.example/192.0.2.7 --local-ttl=300

candidates=
add() { candidates="$candidates $1:$2:$3"; } # name, port, pid
start $first "$program" --listen 127.0.0.1:$((base + 1)) --server $upstream; ours=$last
add narrowgate $((base + 1)) $last
start $first "$program" --listen 127.0.0.1:$((base + 2)) --server $upstream --cache 1000000
add narrowgate-cached $((base + 2)) $last
start $first dnsmasq -k -C /dev/null --pid-file -p $((base + 3)) --listen-address=127.0.0.1 --bind-interfaces -R --no-hosts \
  --cache-size=0 --dns-forward-max=2000 --server=127.0.0.1#$base
add dnsmasq $((base + 3)) $last
start $first dnsmasq -k -C /dev/null --pid-file -p $((base + 4)) --listen-address=127.0.0.1 --bind-interfaces -R --no-hosts \
  --cache-size=10000 --dns-forward-max=2000 --server=127.0.0.1#$base
add dnsmasq-cached $((base + 4)) $last
preload=$target/release/libpacketmark.so
if [ -e "$preload" ] && [ "$(id -u)" = 0 ]; then
  start env LD_PRELOAD="$preload" LIBPACKETMARK_MARK=1 $first dnsmasq -k -C /dev/null --pid-file -p $((base + 5)) --user=root \
    --listen-address=127.0.0.1 --bind-interfaces -R --no-hosts --cache-size=0 --dns-forward-max=2000 --server=127.0.0.1#$base
  add dnsmasq-libpacketmark $((base + 5)) $last
else
  echo "left out: dnsmasq with libpacketmark (no $preload, or not root)"
fi
if command -v unbound >/dev/null; then
  cat >"$work/unbound.conf" <<CONF
server:
  num-threads: 1
  interface: 127.0.0.1@$((base + 6))
  do-daemonize: no
  chroot: ""
  username: ""
  directory: "$work"
  pidfile: ""
  use-syslog: no
  do-not-query-localhost: no
  module-config: "iterator"
  num-queries-per-thread: 4096
  outgoing-range: 4096
  local-zone: "example." nodefault
forward-zone:
  name: "."
  forward-addr: 127.0.0.1@$base
CONF
  start $first unbound -c "$work/unbound.conf"
  add unbound-cached $((base + 6)) $last
else
  echo "left out: unbound (not installed)"
fi
start $first "$relay" 127.0.0.1:$((base + 7)) $upstream
add bare-relay $((base + 7)) $last
add upstream-itself $base 0
sleep 1

i=0
while [ $i -lt 1000 ]; do i=$((i + 1)); echo "h$i.vpn.example A"; done >"$work/queries"

load() { # port, outstanding, mode
  $second dnsperf -s 127.0.0.1 -p "$1" -d "$work/queries" -l "$seconds" -c 1 -T 1 -q "$2" -m "$3" 2>/dev/null
}
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
rate() { awk '/Queries per second/ { print $4 }'; }
latency() { awk '/Average Latency/ { print $4 * 1000000 }'; }

round=0
while [ $round -lt "$rounds" ]; do
  round=$((round + 1))
  for candidate in $candidates; do
    name=${candidate%%:*} rest=${candidate#*:}; port=${rest%%:*}
    load "$port" 100 udp | rate >>"$work/$name.udp"
    $second dnsperf -s 127.0.0.1 -p "$port" -d "$work/queries" -l 1 -c 1 -T 1 -q 1 2>/dev/null | latency >>"$work/$name.lat"
    [ "$name" = bare-relay ] || load "$port" 100 tcp | rate >>"$work/$name.tcp"
  done
done
printf '%-24s %12s %12s %14s %10s\n' candidate 'UDP q/s' 'TCP q/s' 'latency us q=1' 'peak KiB'
for candidate in $candidates; do
  name=${candidate%%:*}; pid=${candidate##*:}
  child=$(pgrep -P "$pid" 2>/dev/null | head -1 || true)
  peak=-; [ "$pid" = 0 ] || peak=$(awk '/VmHWM/ { print $2 }' "/proc/${child:-$pid}/status")
  tcp=-; [ -e "$work/$name.tcp" ] && tcp=$(median <"$work/$name.tcp")
  printf '%-24s %12.0f %12.0f %14.0f %10s\n' "$name" "$(median <"$work/$name.udp")" "${tcp#-}" "$(median <"$work/$name.lat")" "$peak"
done
echo "medians of $rounds rounds of $seconds s; dnsperf -c 1 -T 1 -q 100, latency with -q 1; $(nproc) cores, load $(cut -d' ' -f1 /proc/loadavg)"
