//! The interfaces that `-i` names, checked before anything is changed.

use nix::net::if_::{if_nameindex, if_nametoindex};

use policy::Mode;

use super::RunError;

/// Refuses a name that no interface in the network namespace of the calling thread has, or warns of it where rules are enforced: these
/// hold on every interface, and a host that boots shall not be without them until the last one is there.
pub(super) fn check_names(names: &[String], mode: Mode) -> Result<Option<String>, RunError> {
    let unknown = |name: &&String| if_nametoindex(name.as_str()).is_err();
    let Some(name) = names.iter().find(unknown) else {
        return Ok(None);
    };
    let why = RunError::NoInterface {
        name: name.clone(),
        there: there(),
    };
    match mode {
        Mode::Enforce => Ok(Some(why.to_string())),
        Mode::Observe => Err(why),
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
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn names_that_no_interface_has_are_refused_with_those_that_are_there() {
        for names in [&[][..], &["lo"], &["lo", "lo"]] {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let told = check_names(&names, Mode::Observe);
            assert!(matches!(told, Ok(None)), "{told:?}");
        }
        for unknown in ["no-such", "", "lo*", "longer-than-any-name-may-be", "l\0o"] {
            let names = ["lo".to_owned(), unknown.to_owned()];
            let Err(why) = check_names(&names, Mode::Observe) else {
                panic!("{unknown:?} is taken")
            };
            let why = why.to_string();
            let warned = check_names(&names, Mode::Enforce).unwrap();
            assert_eq!(warned.as_ref(), Some(&why));
            assert!(
                why.contains(&format!("{unknown:?}")) && why.contains("there are lo"),
                "{why}"
            );
        }
    }
}
