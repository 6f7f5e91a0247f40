#!/usr/bin/env bash
# Installs the Debian packages that are missing for building, running or testing. Installs nothing that is there already, and
# asks for root only then.
#
#   packaging/deps.sh run    a C compiler (SQLite is built in) and nft, which enforcing needs
#   packaging/deps.sh lab    also the few tools of the demonstration
#   packaging/deps.sh test   also the real tools that the namespace tests drive
#   packaging/deps.sh bench  also what the peers of the benchmarks are built from
set -euo pipefail

# command:package, or /file:package
run=(cc:build-essential nft:nftables ip:iproute2)
lab=("${run[@]}" curl:curl nc:netcat-openbsd nmap:nmap python3:python3)
test=(
  "${run[@]}"
  iptables:iptables ping:iputils-ping conntrack:conntrack ethtool:ethtool
  nmap:nmap hping3:hping3 curl:curl nc:netcat-openbsd python3:python3 iperf3:iperf3
  tcpdump:tcpdump capinfos:tshark tshark:tshark dig:bind9-dnsutils dnsmasq:dnsmasq-base /usr/sbin/sshd:openssh-server
  faketime:faketime
)
bench=(
  "${test[@]}"
  dnsperf:dnsperf
  /usr/include/libnetfilter_queue/libnetfilter_queue.h:libnetfilter-queue-dev
  /usr/lib/python3/dist-packages/scapy/__init__.py:python3-scapy
  /usr/share/doc/python3-dev:python3-dev /usr/share/doc/python3-venv:python3-venv
)

case "${1:-}" in
  run) wanted=("${run[@]}") ;;
  lab) wanted=("${lab[@]}") ;;
  test) wanted=("${test[@]}") ;;
  bench) wanted=("${bench[@]}") ;;
  *) echo "usage: $0 run|lab|test|bench" >&2; exit 2 ;;
esac

# Administrators' tools live where a plain user's PATH may not lead.
PATH="$PATH:/usr/sbin:/sbin"
missing=()
for pair in "${wanted[@]}"; do
  if [[ "$pair" == /* ]] && [ -e "${pair%%:*}" ]; then continue; fi
  command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
done
if ! command -v cargo >/dev/null; then
  echo "Rust is missing: install it with https://rustup.rs and run this again." >&2
  exit 1
fi
[ "${#missing[@]}" -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "Missing packages, and no sudo to install them: ask an administrator for ${missing[*]}." >&2
    [ "$1" = test ] && exit 0 # the tests that need them say so and are counted as skipped
    exit 1
  fi
  as_root=(sudo)
fi
if ! command -v apt-get >/dev/null; then
  echo "Missing, and this is no Debian: install what your system calls ${missing[*]}." >&2
  [ "$1" = test ] && exit 0
  exit 1
fi
echo "installing ${missing[*]}" >&2
"${as_root[@]}" apt-get update -q
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
