//! A copy of the next ruleset, bans and all, that holds behind everything while our chains begin anew at the first slot.
//! See [`Slot`](super::Slot).

use crate::datapath::{DatapathError, HeldBan};
use crate::netlink::{NetlinkError, Socket};

use super::message::table_is_there;
use super::{Script, TABLE, command, element};

/// The table of the copy, which lives as long as one apply.
const NAME: &str = "portcullis_stand_in";

/// Puts the copy in force.
pub(super) fn load(script: &Script, bans: &[HeldBan]) -> Result<(), DatapathError> {
    let ours = format!("inet {TABLE} ");
    let theirs = format!("inet {NAME} ");
    let text = format!("{}{}", script.text, element::script(bans)).replace(&ours, &theirs);
    command::load(&format!("{}{text}", absent()))
}

/// Takes the copy out, if it is there: also the one that a killed process left.
pub(super) fn remove(socket: &mut Socket) -> Result<(), DatapathError> {
    if is_there(socket)? {
        command::load(&absent())?;
    }
    Ok(())
}

pub(super) fn is_there(socket: &mut Socket) -> Result<bool, NetlinkError> {
    table_is_there(socket, NAME)
}

/// Statements after which the table is not there, whether it was before or not.
pub(super) fn absent() -> String {
    format!("table inet {NAME}\ndelete table inet {NAME}\n")
}
