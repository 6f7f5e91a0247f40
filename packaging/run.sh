#!/usr/bin/env bash
# Starts the firewall out of the checkout in observe mode: it looks, judges and shows, and blocks nothing. Everything it writes
# stays under target/run.
set -euo pipefail
cd "$(dirname "$0")/.."
portcullis=${CARGO_TARGET_DIR:-target}/release/portcullis
run=target/run
mkdir -p "$run"
command=("$portcullis" run --observe --state-dir "$run/state" --log-dir "$run/log" --socket "$run/api.sock")
[ -z "${CONFIG:-}" ] || command+=(--config "$CONFIG")

# CAP_NET_RAW is bit 13 (linux/capability.h); root has it unless a container took it away.
capable() { (( (0x$(awk '/^CapEff/ { print $2 }' /proc/self/status) >> 13) & 1 )); }
if ! capable && ! getcap "$portcullis" 2>/dev/null | grep -q cap_net_raw; then
  echo "Capturing packets needs CAP_NET_RAW, which you do not have: start it with \`sudo ${command[*]}\`." >&2
  exit 5
fi
echo "Below is what it would do. Nothing is blocked, and a quiet machine shows little. From another terminal:" >&2
echo "  $portcullis --socket $run/api.sock status        # also: stats, flows, events, why ADDRESS" >&2
if [ -z "${CONFIG:-}" ]; then
  echo "It judges as a machine would that lets nobody in, with every detector. CONFIG=examples/server.toml make run takes a policy." >&2
fi
[ -t 1 ] || echo "Its output is no terminal: what happens is in $run/log/firewall.log." >&2
exec "${command[@]}"
