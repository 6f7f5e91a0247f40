"""Peer for side-by-side runs: the usual way of firewalls in Python.

Every packet goes through NetfilterQueue and is dissected by Scapy; blocked addresses, blocked ports, a scan counter.
Needs: pip install NetfilterQueue scapy   (Debian: libnetfilter-queue-dev)
Use:   nfq_scapy.py QUEUE      prints packets a second, once a second, until it is ended
"""
import sys
import threading
import time

from netfilterqueue import NetfilterQueue
from scapy.layers.inet import IP, TCP, UDP

BLOCKED_ADDRESSES = {"10.77.0.1"}
BLOCKED_PORTS = {23, 4444}
ports_seen = {}
packets = 0


def on_packet(packet):
    global packets
    packets += 1
    ip = IP(packet.get_payload())
    transport = ip[TCP] if TCP in ip else ip[UDP] if UDP in ip else None
    if transport is not None:
        ports_seen.setdefault(ip.src, {})[transport.dport] = time.time()
    if ip.src in BLOCKED_ADDRESSES or (transport is not None and transport.dport in BLOCKED_PORTS):
        packet.drop()
    else:
        packet.accept()


def report():
    before = 0
    while True:
        time.sleep(1)
        print(packets - before, flush=True)
        before = packets


queue = NetfilterQueue()
queue.bind(int(sys.argv[1]), on_packet, max_len=4096)
threading.Thread(target=report, daemon=True).start()
queue.run()
