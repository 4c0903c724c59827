//! Bugs planted on purpose, to show that the simulation would find them. Without the feature `planted-bugs`, which no
//! normal build has, nothing of this is left in the program.

/// Defines the bugs and their list.
macro_rules! bugs {
    ($($name:ident: $words:literal,)*) => {
        /// A planted bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[cfg_attr(not(feature = "planted-bugs"), expect(unreachable_pub, reason = "public with the feature"))]
        pub enum Bug {
            $(#[doc = $words] $name,)*
        }

        #[cfg(feature = "planted-bugs")]
        impl Bug {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

bugs! {
    AckTooEarly: "A position is durable as soon as its batch is handed over.",
    AckOneByteMore: "A commit's position is one past its `end_lsn`.",
    KeepalivePending: "A keepalive counts as a position although events are pending.",
    CoveredInclusive: "A transaction that begins exactly at the position counts as covered.",
    PartialOneLess: "A split forgets its last frame.",
    PartialForgotten: "A split does not record how far it has come.",
    IdleForgetsPartial: "An idle position forgets a half-published transaction.",
    ForeignUncounted: "Rows of other tables have no ordinal.",
    OpenTaken: "A batch takes the open transaction's records as if they were complete.",
    PositionGoesBack: "What is sent again takes the position back.",
    SecondInFlight: "A batch begins before the outcome of the one before.",
    RefusedDropped: "A refused record is left out.",
    ParkedPasses: "Later events of a parked key are published.",
    EarlierParked: "Events before the head of a parked key are parked behind it.",
    DeliveredIsDurable: "Where events are delivered at least once, their position counts as recorded with them.",
    RecordedBeside: "A position is recorded beside a batch that carries a later one.",
    ParkedDelivered: "Where events are delivered at least once, so are those that are parked.",
    TombstoneForgotten: "A released event stays in the topic of parked ones.",
    ResumeFromSlot: "A start trusts the slot, not the record.",
    SlotAheadUnseen: "A slot that went forward without the relay is taken.",
    SystemUnseen: "Another database system is taken.",
    TimelineUnseen: "Another timeline is taken.",
}

#[cfg(feature = "planted-bugs")]
static PLANTED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(usize::MAX);

/// Plants a bug in the whole process, in the place of the one before.
#[cfg(feature = "planted-bugs")]
pub fn plant(bug: Option<Bug>) {
    let number = bug.map_or(usize::MAX, |bug| bug as usize);
    PLANTED.store(number, std::sync::atomic::Ordering::SeqCst);
}

/// Whether this bug is planted.
#[cfg(feature = "planted-bugs")]
pub(crate) fn is(bug: Bug) -> bool {
    PLANTED.load(std::sync::atomic::Ordering::Relaxed) == bug as usize
}

/// No bug is.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) const fn is(_: Bug) -> bool {
    false
}
