//! The units of time in which rates are counted: those of the kernel's `limit` expression, which nft names.

/// What a rate is for each of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// 1 s.
    Second,
    /// 60 s.
    Minute,
    /// 3,600 s.
    Hour,
    /// 86,400 s.
    Day,
    /// 604,800 s.
    Week,
}

impl TimeUnit {
    /// The shortest first.
    pub const ALL: [Self; 5] = [
        Self::Second,
        Self::Minute,
        Self::Hour,
        Self::Day,
        Self::Week,
    ];
    /// Those that a policy gives a rate in, the shortest first.
    pub const PERIODS: [Self; 4] = [Self::Second, Self::Minute, Self::Hour, Self::Day];

    /// How long it is, in seconds.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
            Self::Week => 604_800,
        }
    }

    /// How long it is, in nanoseconds.
    #[must_use]
    pub const fn nanos(self) -> u64 {
        self.seconds() * 1_000_000_000
    }

    /// As nft and the policy name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
        }
    }
}
