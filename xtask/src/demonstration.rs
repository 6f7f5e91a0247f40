//! `make lab`: the firewall in front of real services, in network namespaces that are gone afterwards, also after Ctrl-C.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use lab::{Netns, Topology};

/// What the server's owner wrote.
const POLICY: &str = r#"mode = "enforce"

[default]
inbound = "deny"
outbound = "allow"

[detect.blocked]
packets = 10
window = "60s"
ban = "10m"

[[rule]]
name = "web"
action = "allow"
direction = "in"
protocol = "tcp"
port = 8080

[[rule]]
name = "no ssh for strangers"
action = "reject"
direction = "in"
protocol = "tcp"
port = 22
"#;

/// How long the daemon may take to begin.
const PATIENCE: Duration = Duration::from_secs(15);

/// Shows it.
pub(crate) fn run() -> anyhow::Result<()> {
    if let Err(why) = lab::available() {
        bail!("{why}");
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .context("cannot watch for Ctrl-C")?;
    }
    // Everything below is owned here: leaving this function, however, ends and removes it.
    let folder = Folder::new()?;
    let lab = Topology::new()?;
    let stage = Stage {
        portcullis: beside_this_program("portcullis")?,
        socket: folder.0.join("api.sock"),
        interrupted,
    };
    println!(
        "client 10.77.1.2 ── server 10.77.1.1, 10.77.2.1 ── attacker 10.77.2.2, each in a network namespace\n"
    );

    let served = folder.0.join("www");
    std::fs::create_dir(&served)?;
    std::fs::write(served.join("index.html"), "The gate is open for you.\n")?;
    let web = lab.server.spawn(
        "python3",
        &[
            "-u",
            "-m",
            "http.server",
            "8080",
            "--bind",
            "::",
            "--directory",
            &text(&served),
        ],
    )?;
    web.wait_for_output("Serving", PATIENCE)?;
    println!("The server serves a page on port 8080 and runs Portcullis with this policy:\n");
    print!("{}", indented(POLICY));
    let policy = folder.0.join("policy.toml");
    std::fs::write(&policy, POLICY)?;
    let daemon = lab.server.spawn(
        &text(&stage.portcullis),
        &[
            "run",
            "--no-web",
            "--config",
            &text(&policy),
            "--state-dir",
            &text(&folder.0.join("state")),
            "--log-dir",
            &text(&folder.0.join("log")),
            "--socket",
            &text(&stage.socket),
        ],
    )?;
    let deadline = Instant::now() + PATIENCE;
    while !stage.answers(&lab.server)? {
        if !daemon.running() || Instant::now() > deadline {
            bail!(
                "the daemon does not answer:\n{}{}",
                daemon.stdout(),
                daemon.stderr()
            );
        }
        std::thread::sleep(Duration::from_millis(50));
    }

    println!("\nThe client asks for the page, and gets it:");
    stage.show(
        &lab.client,
        "client",
        &["curl", "-sS", "-m", "5", "http://10.77.1.1:8080/"],
    )?;
    stage.show(
        &lab.client,
        "client",
        &["curl", "-sS", "-m", "5", "http://[fd77:1::1]:8080/"],
    )?;
    println!("\nThe attacker tries another port and hears nothing; ssh says no at once:");
    stage.show(
        &lab.attacker,
        "attacker",
        &["nc", "-zvnw1", "10.77.2.1", "23"],
    )?;
    stage.show(
        &lab.attacker,
        "attacker",
        &["nc", "-zvnw1", "10.77.2.1", "22"],
    )?;
    println!("\nWhat would become of a packet, and why:");
    stage.tell(
        &lab.server,
        &[
            "test",
            "in",
            "tcp",
            "10.77.2.2:40000",
            "to",
            "10.77.2.1:3306",
        ],
    )?;
    stage.tell(
        &lab.server,
        &[
            "test",
            "in",
            "tcp",
            "10.77.2.2:40000",
            "to",
            "10.77.2.1:8080",
        ],
    )?;
    println!("\nThe attacker scans:");
    stage.show(
        &lab.attacker,
        "attacker",
        &[
            "nmap",
            "-n",
            "-Pn",
            "-sS",
            "-p1-100,8080",
            "--max-retries",
            "0",
            "-T4",
            "10.77.2.1",
        ],
    )?;
    println!("\nand is banned: not even the page is there for it any more.");
    stage.show(
        &lab.attacker,
        "attacker",
        &["curl", "-sS", "-m", "2", "http://10.77.2.1:8080/"],
    )?;
    stage.tell(&lab.server, &["bans"])?;
    stage.tell(&lab.server, &["why", "10.77.2.2"])?;
    println!("\nThe client is not touched:");
    stage.show(
        &lab.client,
        "client",
        &["curl", "-sS", "-m", "5", "http://10.77.1.1:8080/"],
    )?;
    println!("\nThe end: everything of ours out of the kernel again.");
    stage.tell(&lab.server, &["flush"])?;
    stage.show(&lab.server, "server", &["nft", "list", "ruleset"])?;
    daemon.stop(PATIENCE)?;
    println!("\nThe namespaces are removed now.");
    Ok(())
}

/// What every act needs.
struct Stage {
    portcullis: PathBuf,
    socket: PathBuf,
    interrupted: Arc<AtomicBool>,
}

impl Stage {
    /// Shows a command as it is typed in a namespace, and what it says. It may fail: that is often the point.
    fn show(&self, netns: &Netns, who: &str, command: &[&str]) -> anyhow::Result<()> {
        self.act(netns, who, &command.join(" "), command)
    }

    /// Shows a client verb on the server.
    fn tell(&self, server: &Netns, verb: &[&str]) -> anyhow::Result<()> {
        let (program, socket) = (text(&self.portcullis), text(&self.socket));
        let command = [&[program.as_str(), "--socket", &socket], verb].concat();
        self.act(
            server,
            "server",
            &format!("portcullis {}", verb.join(" ")),
            &command,
        )
    }

    fn act(&self, netns: &Netns, who: &str, shown: &str, command: &[&str]) -> anyhow::Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            bail!("interrupted; everything is cleaned up");
        }
        println!("\n  {who}$ {shown}");
        let [program, arguments @ ..] = command else {
            bail!("nothing to run");
        };
        let output = netns.output(program, arguments)?;
        print!("{}", indented(&String::from_utf8_lossy(&output.stdout)));
        print!("{}", indented(&String::from_utf8_lossy(&output.stderr)));
        Ok(())
    }

    fn answers(&self, server: &Netns) -> anyhow::Result<bool> {
        if self.interrupted.load(Ordering::Relaxed) {
            bail!("interrupted; everything is cleaned up");
        }
        let output = server.output(
            &text(&self.portcullis),
            &["--socket", &text(&self.socket), "status"],
        )?;
        Ok(output.status.success())
    }
}

/// A folder that is removed with what is in it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("portcullis-lab-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(why) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{} is left behind: {why}", self.0.display());
        }
    }
}

/// A program that was built beside this one.
pub(crate) fn beside_this_program(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()
        .context("cannot tell where this program is")?
        .with_file_name(name);
    if !path.is_file() {
        bail!("{} is not built; run `make build` first", path.display());
    }
    Ok(path)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}
