//! `completions` and `man`, from the one definition of the command line.

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use crate::args::Arguments;
use crate::failure::{Exit, Failure};
use crate::screen::Screen;

/// Prints a completion script.
pub(super) fn completions(shell: Shell, screen: &mut Screen) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut shown(), "portcullis", &mut script);
    screen.bytes(&script)?;
    Ok(Exit::Done)
}

/// The command line without the hidden verbs, which the scripts would offer.
fn shown() -> Command {
    let whole = Arguments::command();
    let verbs = whole.get_subcommands().filter(|verb| !verb.is_hide_set());
    Command::new("portcullis")
        .version(env!("CARGO_PKG_VERSION"))
        .args(whole.get_arguments().cloned())
        .subcommands(verbs.cloned())
}

/// Prints one manual page: the command, then each verb with its options.
pub(super) fn man(screen: &mut Screen) -> Result<Exit, Failure> {
    let mut command = Arguments::command();
    command.build();
    let page = clap_mangen::Man::new(command.clone()).section("8");
    let mut roff = Vec::new();
    page.render_title(&mut roff)?;
    page.render_name_section(&mut roff)?;
    page.render_synopsis_section(&mut roff)?;
    page.render_description_section(&mut roff)?;
    page.render_options_section(&mut roff)?;
    for verb in command
        .get_subcommands()
        .filter(|verb| !verb.is_hide_set() && verb.get_name() != "help")
    {
        roff.extend_from_slice(format!(".SH {}\n", verb.get_name().to_uppercase()).as_bytes());
        let page = clap_mangen::Man::new(verb.clone());
        for section in sections(&page)? {
            // The sections of a verb stand one level below the verb.
            let text = String::from_utf8_lossy(&section).replace("\n.SH ", "\n.SS ");
            roff.extend_from_slice(text.as_bytes());
        }
    }
    roff.extend_from_slice(EXIT_AND_FILES.as_bytes());
    screen.bytes(&roff)?;
    Ok(Exit::Done)
}

fn sections(page: &clap_mangen::Man) -> std::io::Result<[Vec<u8>; 3]> {
    let (mut synopsis, mut description, mut options) =
        (b"\n".to_vec(), b"\n".to_vec(), b"\n".to_vec());
    page.render_synopsis_section(&mut synopsis)?;
    page.render_description_section(&mut description)?;
    page.render_options_section(&mut options)?;
    Ok([synopsis, description, options])
}

const EXIT_AND_FILES: &str = r".SH EXIT STATUS
0 done; 1 failed; 2 usage; 3 the policy is invalid; 4 not running; 5 not permitted; 6
.B test
found a packet that does not pass, or
.B check
found warnings.
.SH ENVIRONMENT
.TP
.B PORTCULLIS_SOCKET
The socket, when \-\-socket is not given.
.TP
.B NO_COLOR
When set and not empty, no colours are shown.
.SH FILES
.TP
.I /etc/portcullis/policy.toml
The policy.
.TP
.I /run/portcullis/api.sock
The control socket.
.TP
.I /var/lib/portcullis
Bans and history.
.TP
.I /var/log/portcullis
The record: eve.json and firewall.log.
";
