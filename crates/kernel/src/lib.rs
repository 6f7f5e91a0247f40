//! Linux backends: capture, nftables, NFLOG, NFQUEUE, replay
