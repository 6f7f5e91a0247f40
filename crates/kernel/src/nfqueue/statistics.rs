//! What the kernel counts for each queue (`/proc/net/netfilter/nfnetlink_queue`).

use std::io;

/// One queue's counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueStatistics {
    /// The queue's number.
    pub queue: u16,
    /// Packets that wait for a verdict.
    pub waiting: u32,
    /// Packets that did not fit the queue, ever: dropped, or passed where the queue fails open.
    pub full: u64,
    /// Packets that did not fit the socket's buffer, ever: dropped, or passed where the queue fails open.
    pub unread: u64,
    /// The number of the last packet queued.
    pub last_id: u32,
}

/// The counters of all queues in the network namespace of the calling thread; none where the kernel has no NFQUEUE.
///
/// # Errors
/// The file is there and cannot be read.
pub fn statistics() -> io::Result<Vec<QueueStatistics>> {
    match std::fs::read_to_string("/proc/thread-self/net/netfilter/nfnetlink_queue") {
        Ok(text) => Ok(parse_statistics(&text)),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(why) => Err(why),
    }
}

/// Reads the file's text: number, port, waiting, copy mode, copy range, full, unread, last id, 1. Other lines are passed over.
#[must_use]
pub fn parse_statistics(text: &str) -> Vec<QueueStatistics> {
    let line = |line: &str| {
        let mut fields = line.split_ascii_whitespace().map(str::parse::<u64>);
        let mut next = || fields.next()?.ok();
        let (queue, _port, waiting) = (next()?, next()?, next()?);
        let (_mode, _range, full, unread, last) = (next()?, next()?, next()?, next()?, next()?);
        Some(QueueStatistics {
            queue: queue.try_into().ok()?,
            waiting: waiting.try_into().ok()?,
            full,
            unread,
            last_id: last.try_into().ok()?,
        })
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let text = "    0  31337     5 2 65531     7     9      123  1\n65535 1 0 2 1 0 0 0 1\nnonsense\n1 2 3\n70000 1 0 2 1 0 0 0 1\n";
        let expected = [
            QueueStatistics {
                queue: 0,
                waiting: 5,
                full: 7,
                unread: 9,
                last_id: 123,
            },
            QueueStatistics {
                queue: 65_535,
                waiting: 0,
                full: 0,
                unread: 0,
                last_id: 0,
            },
        ];
        assert_eq!(parse_statistics(text), expected);
    }
}
