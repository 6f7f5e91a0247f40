//! A point in time as the API writes it.

use std::fmt;

use ::policy::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// RFC 3339 in UTC with microseconds; reads any offset and any number of decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Timestamp);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Timestamp> for Time {
    fn from(at: Timestamp) -> Self {
        Self(at)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = Timestamp::read_rfc3339(&text);
        let wrong = |why| serde::de::Error::custom(format!("{text:?} {why}"));
        time.map(Self).map_err(wrong)
    }
}
