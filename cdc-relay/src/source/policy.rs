//! What each SQLSTATE means to a relay: whether it passes by itself, and what mends it if not.

use super::error::{Attempt, SourceErrorKind};

/// Sorts a failure that the server named.
pub(super) fn classify(attempt: Attempt, sqlstate: &str, text: &str) -> (SourceErrorKind, &'static str) {
    use SourceErrorKind::{Denied, Halt, Retry, SlotBusy};
    match sqlstate {
        "55006" => (
            SlotBusy { pid: trailing_number(text) },
            "another process streams from this slot: stop it, or wait until it has ended",
        ),
        "53300" => (Retry, "raise max_wal_senders or max_connections if this lasts"),
        "53400" => {
            (Halt, "drop a slot that is no longer used, or raise max_replication_slots and restart Postgres")
        }
        "57014" | "55P03" if attempt == Attempt::CreateSlot => (Retry, SLOT_WAITS),
        "57P01" | "57P02" | "57P03" => (Retry, "the server stops or starts"),
        "57P04" => (Halt, "the database was dropped"),
        "55000" => (Halt, not_in_state(attempt)),
        "42704" | "42P01" | "42703" => (Halt, not_there(attempt)),
        "42710" => (Halt, "a slot of this name exists: run without creating it, or choose another name"),
        "58P01" => (
            Halt,
            "the write-ahead log that the slot needs is gone: the slot must be made anew and the gap repaired",
        ),
        "08P01" => (Halt, "connect to Postgres itself: a pooler cannot replicate"),
        "3D000" => (Halt, "create the database, or correct its name in the settings"),
        "28P01" => (Denied, "correct the password of this role in the settings"),
        "28000" => (Denied, "pg_hba.conf must admit this role from this host, with this kind of encryption"),
        "42501" => (Denied, not_permitted(attempt)),
        "22023" => (Halt, "Postgres 14 or later is needed"),
        _ => match sqlstate.get(..2) {
            Some("08" | "40" | "53" | "57") => (Retry, ""),
            Some("28") => (Denied, "check the credentials and pg_hba.conf"),
            Some(_) | None => (Halt, "the server log says more"),
        },
    }
}

/// What to look at when an answer does not come.
pub(super) const fn timed_out(attempt: Attempt) -> &'static str {
    match attempt {
        Attempt::CreateSlot => SLOT_WAITS,
        Attempt::Connect
        | Attempt::IdentifySystem
        | Attempt::DropSlot
        | Attempt::StartReplication
        | Attempt::Stream
        | Attempt::Finish
        | Attempt::Catalog
        | Attempt::Lease => "check that the host answers and the port is open",
    }
}

const SLOT_WAITS: &str = "a slot waits for every transaction that was open when it was asked for: end the oldest one \
     (select pid, xact_start, state, query from pg_stat_activity where backend_xid is not null order by xact_start)";

const fn not_in_state(attempt: Attempt) -> &'static str {
    match attempt {
        Attempt::CreateSlot => "set wal_level = logical and restart Postgres",
        Attempt::StartReplication | Attempt::Stream => {
            "the slot can no longer be read from, wal_status in pg_replication_slots says why: it must be made anew and \
             the gap repaired"
        }
        Attempt::Connect
        | Attempt::IdentifySystem
        | Attempt::DropSlot
        | Attempt::Finish
        | Attempt::Catalog
        | Attempt::Lease => "the server log says more",
    }
}

const fn not_there(attempt: Attempt) -> &'static str {
    match attempt {
        Attempt::StartReplication => "`cdc-relay init` creates the slot",
        Attempt::Stream => {
            "the publication must have existed before the events that are read now: if it was dropped or created after \
             the slot, the slot must be made anew and the gap repaired"
        }
        Attempt::Connect
        | Attempt::IdentifySystem
        | Attempt::DropSlot
        | Attempt::CreateSlot
        | Attempt::Finish
        | Attempt::Catalog
        | Attempt::Lease => "create what is named, or correct its name in the settings",
    }
}

const fn not_permitted(attempt: Attempt) -> &'static str {
    match attempt {
        Attempt::Catalog | Attempt::Lease => "grant SELECT on the outbox table to this role",
        Attempt::Connect
        | Attempt::IdentifySystem
        | Attempt::DropSlot
        | Attempt::CreateSlot
        | Attempt::StartReplication
        | Attempt::Stream
        | Attempt::Finish => {
            "alter role … with replication (on managed services: grant its replication role)"
        }
    }
}

/// The number at the end, as in `replication slot "s" is active for PID 4711`, in whatever language.
fn trailing_number(text: &str) -> Option<i32> {
    let before = text.trim_end_matches(|letter: char| letter.is_ascii_digit());
    text.strip_prefix(before)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::error::{Attempt, SourceErrorKind};
    use super::{classify, trailing_number};

    #[test]
    fn each_code_has_its_kind() {
        use SourceErrorKind::{Denied, Halt, Retry};
        for (attempt, sqlstate, kind) in [
            (Attempt::Connect, "08006", Retry),
            (Attempt::Connect, "08P01", Halt),
            (Attempt::Connect, "53300", Retry),
            (Attempt::Connect, "57P03", Retry),
            (Attempt::Stream, "57P01", Retry),
            (Attempt::Stream, "53100", Retry),
            (Attempt::CreateSlot, "57014", Retry),
            (Attempt::CreateSlot, "55000", Halt),
            (Attempt::CreateSlot, "53400", Halt),
            (Attempt::StartReplication, "55000", Halt),
            (Attempt::StartReplication, "42704", Halt),
            (Attempt::Stream, "58P01", Halt),
            (Attempt::Stream, "XX000", Halt),
            (Attempt::Connect, "57P04", Halt),
            (Attempt::Connect, "28P01", Denied),
            (Attempt::Connect, "28000", Denied),
            (Attempt::Connect, "42501", Denied),
            (Attempt::Stream, "", Halt),
        ] {
            assert_eq!(classify(attempt, sqlstate, "").0, kind, "{sqlstate} while {attempt}");
        }
    }

    #[test]
    fn a_busy_slot_names_its_process() {
        let kind =
            classify(Attempt::StartReplication, "55006", "replication slot \"s1\" is active for PID 4711").0;
        assert_eq!(kind, SourceErrorKind::SlotBusy { pid: Some(4711) });
    }

    #[test]
    fn a_text_without_a_number_at_its_end_has_none() {
        assert_eq!(trailing_number("slot 17 is busy"), None);
        assert_eq!(trailing_number("PID 99999999999"), None);
        assert_eq!(trailing_number(""), None);
    }
}
