//! Postgres' clock.

/// Microseconds since 2000-01-01 00:00:00 UTC, as the server writes them. It may lie before that day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PgTimestamp(i64);

/// Microseconds from the Unix epoch to Postgres' epoch: 10 957 days.
const EPOCH_UNIX_MICROS: i64 = 10_957 * 86_400 * 1_000_000;

impl PgTimestamp {
    /// The instant `micros` after Postgres' epoch.
    pub const fn from_pg_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// The instant `micros` after the Unix epoch; the far ends of time are clamped.
    pub const fn from_unix_micros(micros: i64) -> Self {
        Self(micros.saturating_sub(EPOCH_UNIX_MICROS))
    }

    /// Microseconds after Postgres' epoch.
    pub const fn pg_micros(self) -> i64 {
        self.0
    }

    /// Microseconds after the Unix epoch; the far ends of time are clamped.
    pub const fn unix_micros(self) -> i64 {
        self.0.saturating_add(EPOCH_UNIX_MICROS)
    }
}

#[cfg(test)]
mod tests {
    use super::PgTimestamp;

    #[test]
    fn the_epochs_are_thirty_years_apart() {
        assert_eq!(PgTimestamp::from_pg_micros(0).unix_micros(), 946_684_800_000_000);
        assert_eq!(PgTimestamp::from_unix_micros(0).pg_micros(), -946_684_800_000_000);
    }

    #[test]
    fn the_ends_of_time_are_clamped() {
        assert_eq!(PgTimestamp::from_pg_micros(i64::MAX).unix_micros(), i64::MAX);
        assert_eq!(PgTimestamp::from_unix_micros(i64::MIN).pg_micros(), i64::MIN);
    }
}
