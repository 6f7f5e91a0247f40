//! The same list of "allow from X to port Y" as four firewalls hold it: ours, ufw's, linear nftables rules, nothing.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, ensure};
use kernel::nft::{Context as Surroundings, HandUp, LOG_GROUP, Slot, compile};
use lab::Netns;
use policy::AddressSet;

use super::peer::Folder;
use super::plans::{Allow, plan};

/// Our script, loaded by nft.
pub(super) fn load_ours(at: &Netns, allows: &[Allow]) -> anyhow::Result<()> {
    let plan = plan(allows.iter().map(|allow| allow.rule()));
    let script = compile(
        &plan,
        &Surroundings {
            protected: &AddressSet::default(),
            queues: None,
            hand_up: HandUp::Mark,
            log_group: LOG_GROUP,
            slot: Slot::default(),
        },
    )?;
    load_script(at, "ours", &script.text)
}

/// One nftables rule for each, one after the other, behind the usual look at the connection's state.
pub(super) fn load_linear(at: &Netns, allows: &[Allow]) -> anyhow::Result<()> {
    let mut text = "table inet linear {\n\tchain input {\n\t\ttype filter hook input priority 0; policy drop;\n\
        \t\tct state vmap { established : accept, related : accept, invalid : drop }\n\t\tiif lo accept\n\
        \t\tmeta l4proto ipv6-icmp accept\n"
        .to_owned();
    for Allow { from, port } in allows {
        writeln!(text, "\t\tip saddr {from} tcp dport {port} accept")?;
    }
    text.push_str("\t}\n}\n");
    load_script(at, "linear", &text)
}

/// Loads any script.
pub(super) fn load_script(at: &Netns, label: &str, text: &str) -> anyhow::Result<()> {
    let folder = Folder::new(label)?;
    let file = folder.path().join("rules.nft");
    std::fs::write(&file, text)?;
    at.run("nft", &["-f", &file.display().to_string()])?;
    Ok(())
}

/// What ufw writes for `ufw allow from X to any port Y proto tcp`, in its own format.
fn ufw_user_rules(allows: &[Allow]) -> anyhow::Result<String> {
    let mut text = "*filter\n:ufw-user-input - [0:0]\n:ufw-user-output - [0:0]\n:ufw-user-forward - [0:0]\n\
        :ufw-before-logging-input - [0:0]\n:ufw-before-logging-output - [0:0]\n:ufw-before-logging-forward - [0:0]\n\
        :ufw-user-logging-input - [0:0]\n:ufw-user-logging-output - [0:0]\n:ufw-user-logging-forward - [0:0]\n\
        :ufw-after-logging-input - [0:0]\n:ufw-after-logging-output - [0:0]\n:ufw-after-logging-forward - [0:0]\n\
        :ufw-logging-deny - [0:0]\n:ufw-logging-allow - [0:0]\n\
        :ufw-user-limit - [0:0]\n:ufw-user-limit-accept - [0:0]\n### RULES ###\n"
        .to_owned();
    for Allow { from, port } in allows {
        writeln!(
            text,
            "\n### tuple ### allow tcp {port} 0.0.0.0/0 any {from} in\n\
             -A ufw-user-input -p tcp --dport {port} -s {from} -j ACCEPT"
        )?;
    }
    text.push_str("\n### END RULES ###\n-A ufw-user-limit -j REJECT\n-A ufw-user-limit-accept -j ACCEPT\nCOMMIT\n");
    Ok(text)
}

/// ufw itself where it is installed, with a configuration of its own; otherwise the chains that it makes, said aloud.
/// Returns the name to print.
pub(super) fn load_ufw(at: &Netns, allows: &[Allow]) -> anyhow::Result<&'static str> {
    let folder = Folder::new("ufw")?;
    let init = Path::new("/lib/ufw/ufw-init");
    let rules = ufw_user_rules(allows)?;
    if init.is_file() {
        match start_ufw(at, folder.path(), init, &rules) {
            Ok(()) => return Ok("ufw"),
            Err(why) => eprintln!("ufw does not start in a namespace: {why:#}"),
        }
    } else {
        eprintln!("ufw is not installed (package ufw)");
    }
    eprintln!("NOT ufw itself: the iptables chain that it makes is measured in its place");
    let file = folder.path().join("chain");
    let hooked = rules.replace(
        "### RULES ###",
        "-P INPUT DROP\n-A INPUT -i lo -j ACCEPT\n-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A INPUT -j ufw-user-input",
    );
    std::fs::write(&file, hooked)?;
    at.run("iptables-restore", &["-n", &file.display().to_string()])?;
    Ok("ufw's chain (iptables)")
}

/// Starts ufw on a copy of its configuration. Its own programs load its own chains and our list as its user rules.
fn start_ufw(at: &Netns, folder: &Path, init: &Path, rules: &str) -> anyhow::Result<()> {
    let configuration = folder.join("etc/ufw");
    std::fs::create_dir_all(folder.join("etc/default"))?;
    at.run(
        "cp",
        &["-r", "/etc/ufw", &configuration.display().to_string()],
    )?;
    std::fs::write(
        configuration.join("ufw.conf"),
        "ENABLED=yes\nLOGLEVEL=low\n",
    )?;
    std::fs::write(configuration.join("user.rules"), rules)?;
    // No IPv6, no kernel settings and no modules: nothing beyond the namespace is to be touched.
    std::fs::write(
        folder.join("etc/default/ufw"),
        "IPV6=no\nDEFAULT_INPUT_POLICY=\"DROP\"\nDEFAULT_OUTPUT_POLICY=\"ACCEPT\"\nDEFAULT_FORWARD_POLICY=\"DROP\"\n\
         MANAGE_BUILTINS=no\nIPT_SYSCTL=\nIPT_MODULES=\"\"\n",
    )?;
    let output = at.output(
        &init.display().to_string(),
        &["--datadir", &folder.display().to_string(), "start"],
    )?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "ufw-init: {}\n{said}",
        output.status
    );
    let loaded = at
        .run("iptables", &["-S", "ufw-user-input"])
        .context("ufw made no chain")?;
    let (found, wanted) = (
        loaded.matches("-j ACCEPT").count(),
        rules.matches("-A ufw-user-input").count(),
    );
    ensure!(
        found == wanted,
        "{found} of {wanted} rules are loaded\n{said}"
    );
    Ok(())
}
