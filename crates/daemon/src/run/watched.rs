//! The interfaces that `-i` names, checked before anything is changed.

use nix::net::if_::{if_nameindex, if_nametoindex};

use super::RunError;

/// Refuses a name that no interface in the network namespace of the calling thread has. Whatever the mode: an observed policy may be
/// enforced later and the other way round, and a typing error found then would be found too late.
pub(super) fn refuse_unknown(names: &[String]) -> Result<(), RunError> {
    let unknown = |name: &&String| if_nametoindex(name.as_str()).is_err();
    match names.iter().find(unknown) {
        Some(name) => Err(RunError::NoInterface {
            name: name.clone(),
            there: there(),
        }),
        None => Ok(()),
    }
}

/// Interfaces that an error names: hosts of containers have hundreds.
const NAMED: usize = 10;

/// The names that could have been meant.
fn there() -> String {
    let mut names: Vec<String> = if_nameindex()
        .map(|all| {
            all.iter()
                .map(|interface| interface.name().to_string_lossy().into_owned())
                .collect()
        })
        .unwrap_or_default();
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    match (names.is_empty(), more) {
        (true, _) => "`ip link` lists those that are there".to_owned(),
        (false, 0) => format!("there are {}", names.join(", ")),
        (false, more) => format!("there are {} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_interface_has_are_refused_with_those_that_are_there() {
        for names in [&[][..], &["lo"], &["lo", "lo"]] {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            assert!(refuse_unknown(&names).is_ok(), "{names:?}");
        }
        for unknown in ["no-such", "", "lo*", "longer-than-any-name-may-be", "l\0o"] {
            let names = ["lo".to_owned(), unknown.to_owned()];
            let Err(why) = refuse_unknown(&names) else {
                panic!("{unknown:?} is taken")
            };
            let why = why.to_string();
            assert!(
                why.contains(&format!("{unknown:?}")) && why.contains("there are lo"),
                "{why}"
            );
        }
    }
}
