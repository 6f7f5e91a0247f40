//! A log file that rotates, and that stops and comes back instead of failing when its disk is full. It never waits for anything
//! but the disk, and whoever appends never sees an error: what is lost is counted and shown.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{FallocateFlags, fallocate};

use crate::api;

/// How long a stopped file stays alone before it is tried again.
pub(super) const RETRY: Duration = Duration::from_secs(1);
/// Bytes held back before they go out without being asked.
const BUFFER: usize = 64 * 1024;

/// An appending, rotating file of lines.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    rotate_bytes: u64,
    keep: u32,
    file: Option<File>,
    /// Bytes of whole lines in the file.
    length: u64,
    buffer: Vec<u8>,
    buffered_lines: u64,
    stopped: Option<(String, Instant)>,
    written: u64,
    lost: u64,
}

impl LogFile {
    /// Opens or creates the file. A file that cannot be opened is stopped, and tried again later.
    pub fn open(path: PathBuf, rotate_bytes: u64, keep: u32, now: Instant) -> Self {
        let mut log = Self {
            path,
            rotate_bytes,
            keep,
            file: None,
            length: 0,
            buffer: Vec::new(),
            buffered_lines: 0,
            stopped: None,
            written: 0,
            lost: 0,
        };
        if let Err(error) = log.reach() {
            log.stop(&error, now);
        }
        log
    }

    /// Changes when it rotates, and how many old files stay.
    pub fn set_limits(&mut self, rotate_bytes: u64, keep: u32) {
        self.rotate_bytes = rotate_bytes;
        self.keep = keep;
    }

    /// Takes a line without its newline. It is in the file after the next [`LogFile::flush`].
    pub fn append(&mut self, line: &[u8], now: Instant) {
        self.buffer.extend_from_slice(line);
        self.buffer.push(b'\n');
        self.buffered_lines += 1;
        if self.buffer.len() >= BUFFER {
            self.flush(now);
        }
    }

    /// Writes out what was taken, and rotates when the file is large enough.
    pub fn flush(&mut self, now: Instant) {
        if self.buffer.is_empty() {
            return;
        }
        let waiting = matches!(self.stopped, Some((_, since)) if now.duration_since(since) < RETRY);
        let outcome = if waiting {
            None
        } else {
            Some(self.write_out())
        };
        match outcome {
            Some(Ok(())) => {
                self.written += self.buffered_lines;
                self.stopped = None;
            }
            Some(Err(error)) => {
                self.lost += self.buffered_lines;
                self.stop(&error, now);
            }
            None => self.lost += self.buffered_lines,
        }
        self.buffer.clear();
        self.buffered_lines = 0;
    }

    /// Opens the path anew, for whoever moved the file away.
    pub fn reopen(&mut self, now: Instant) {
        self.flush(now);
        self.file = None;
        match self.reach() {
            Ok(_) => self.stopped = None,
            Err(error) => self.stop(&error, now),
        }
    }

    /// Whether nothing is written now.
    pub const fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// Looks whether a stopped file has room again, without a line to write.
    pub fn retry(&mut self, now: Instant) {
        if matches!(self.stopped, Some((_, since)) if now.duration_since(since) >= RETRY) {
            match self.reach().and_then(|()| self.has_room()) {
                Ok(()) => self.stopped = None,
                Err(error) => self.stop(&error, now),
            }
        }
    }

    /// Takes room behind the last line, and gives it back. An error for want of room, and where the file system cannot say.
    fn has_room(&self) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Err(io::Error::other("the log file is not open"));
        };
        let length = self.length as i64;
        fallocate(
            file,
            FallocateFlags::FALLOC_FL_KEEP_SIZE,
            length,
            BUFFER as i64,
        )?;
        file.set_len(self.length)
    }

    /// How it does.
    pub fn state(&self) -> api::Sink {
        api::Sink {
            path: self.path.display().to_string(),
            state: if self.stopped.is_some() {
                "stopped"
            } else {
                "writing"
            }
            .to_owned(),
            error: self.stopped.as_ref().map(|(error, _)| error.clone()),
            written: self.written,
            lost: self.lost,
            bytes: self.length,
        }
    }

    fn write_out(&mut self) -> io::Result<()> {
        if self.length > 0 && self.length + self.buffer.len() as u64 > self.rotate_bytes {
            self.rotate()?;
        }
        let length = self.length;
        self.reach()?;
        let Some(file) = &mut self.file else {
            return Err(io::Error::other("the log file is not open"));
        };
        if let Err(error) = file.write_all(&self.buffer) {
            // Half a line is worse than none: the next reader would take it, and the line after it, for one.
            if let Err(cut) = file.set_len(length) {
                tracing::warn!(
                    "cannot cut {} back to whole lines: {cut}",
                    self.path.display()
                );
            }
            return Err(error);
        }
        self.length += self.buffer.len() as u64;
        Ok(())
    }

    /// The open file, opened if need be.
    fn reach(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            if let Some(folder) = self.path.parent() {
                fs::create_dir_all(folder)?;
            }
            let file = OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o640)
                .open(&self.path)?;
            self.length = file.metadata()?.len();
            self.file = Some(file);
        }
        Ok(())
    }

    /// `x` becomes `x.1`, `x.1` becomes `x.2`, and so on; the last one goes.
    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        if self.keep == 0 {
            remove(&self.path)?;
        } else {
            for number in (1..self.keep).rev() {
                rename(
                    &numbered(&self.path, number),
                    &numbered(&self.path, number + 1),
                )?;
            }
            rename(&self.path, &numbered(&self.path, 1))?;
        }
        self.length = 0;
        Ok(())
    }

    fn stop(&mut self, error: &io::Error, now: Instant) {
        let text = format!("{}: {error}", self.path.display());
        // The guard tells of it.
        self.stopped = Some((text, now));
        self.file = None;
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    absent_is_fine(fs::rename(from, to))
}

fn remove(path: &Path) -> io::Result<()> {
    absent_is_fine(fs::remove_file(path))
}

fn absent_is_fine(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn it_rotates_keeps_n_and_splits_no_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/eve.json");
        let now = Instant::now();
        let mut log = LogFile::open(path.clone(), 100, 2, now);
        for number in 0..50 {
            log.append(format!("line {number:020}").as_bytes(), now);
            log.flush(now);
        }
        let mut names: Vec<String> = fs::read_dir(path.parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["eve.json", "eve.json.1", "eve.json.2"]);
        let all: String = ["eve.json.2", "eve.json.1", "eve.json"]
            .iter()
            .map(|name| fs::read_to_string(path.with_file_name(name)).unwrap())
            .collect();
        assert!(
            all.lines().all(|line| line.len() == 25)
                && all.ends_with(&format!("line {:020}\n", 49))
        );
        assert!(fs::metadata(&path).unwrap().len() <= 100);
        assert_eq!((log.state().written, log.state().lost), (50, 0));
    }

    #[test]
    fn a_full_disk_stops_it_and_it_resumes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("firewall.log");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let start = Instant::now();
        let mut log = LogFile::open(path.clone(), 1 << 20, 1, start);
        log.append(b"lost", start);
        log.flush(start);
        let state = log.state();
        assert_eq!(
            (state.state.as_str(), state.lost, state.written),
            ("stopped", 1, 0)
        );
        assert!(state.error.unwrap().contains("No space left"));

        fs::remove_file(&path).unwrap();
        log.append(b"lost too: it is not tried at once", start);
        log.flush(start);
        assert_eq!(log.state().lost, 2);
        let later = start + RETRY;
        log.append(b"back", later);
        log.flush(later);
        assert_eq!(
            (log.state().state.as_str(), log.state().written),
            ("writing", 1)
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "back\n");
    }

    #[test]
    fn reopen_follows_a_moved_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("eve.json");
        let now = Instant::now();
        let mut log = LogFile::open(path.clone(), 1 << 20, 1, now);
        log.append(b"one", now);
        log.flush(now);
        fs::rename(&path, folder.path().join("moved")).unwrap();
        log.append(b"two", now);
        log.reopen(now);
        log.append(b"three", now);
        log.flush(now);
        assert_eq!(
            fs::read_to_string(folder.path().join("moved")).unwrap(),
            "one\ntwo\n"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
    }
}
