//! A web server of one page, to see whether clients are served.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::Netns;

/// A running web server; gone when dropped.
#[derive(Debug)]
pub struct Web {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Web {
    /// What it answers to every request.
    pub const PAGE: &str = "fine";

    /// Serves on this port of every address of the namespace, of both families.
    ///
    /// # Errors
    ///
    /// When the port is taken, or the namespace is gone.
    pub fn start(netns: &Netns, port: u16) -> anyhow::Result<Self> {
        let listener =
            netns.enter(|| TcpListener::bind(SocketAddr::from(([0_u16; 8], port))))??;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let Ok((mut stream, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(2));
                    continue;
                };
                // A client that is gone is no matter.
                let _ = stream.set_nonblocking(false);
                let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
                let _ = stream.read(&mut [0; 1_024]);
                let head = "HTTP/1.0 200 OK\r\nContent-Length: ";
                let _ = write!(stream, "{head}{}\r\n\r\n{}", Self::PAGE.len(), Self::PAGE);
            }
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of its own has been printed.
            let _ = thread.join();
        }
    }
}
