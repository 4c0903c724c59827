//! What must happen in some schedule of a full run: a simulation that never comes to the hard places shows nothing.

macro_rules! sometimes {
    ($($name:ident: $words:literal,)*) => {
        /// A situation that some schedule must come to.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Sometimes {
            $(#[doc = $words] $name,)*
        }

        impl Sometimes {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// In words.
            pub const fn words(self) -> &'static str {
                match self {
                    $(Self::$name => $words,)*
                }
            }
        }
    };
}

sometimes! {
    SplitAndKilled: "a relay was killed while a transaction was half in Kafka",
    ResumedInside: "a relay went on inside a transaction that was half in Kafka",
    UnknownCommitted: "an outcome was unknown and the transaction was committed",
    UnknownAborted: "an outcome was unknown and the transaction was not committed",
    CommittedLate: "a commit request arrived after its relay had given up",
    ZombieFenced: "a relay that had lost its source tried to publish and was fenced",
    FrozenTakenOver: "a relay took over from one that was frozen",
    IdleAcknowledged: "an idle position was recorded and acknowledged",
    SlotWentBack: "the slot went back and sent what was acknowledged before",
    CoveredDropped: "a transaction was sent again and dropped whole",
    ServerShutDown: "the server shut down because everything was acknowledged",
    ServerCrashed: "the server crashed while a relay was attached",
    LinkCut: "the stream was cut with frames on the way",
    HalfOpenNoticed: "a half-open stream was noticed by silence",
    WalsenderTimedOut: "the server gave up a relay that did not answer",
    LeaseLost: "a relay lost its lease and noticed it",
    FullBuffer: "a full buffer stopped the reading",
    Drained: "a relay stopped after everything complete was in Kafka",
    OpenedWhileOpen: "a relay started while an earlier one's transaction was open",
    EndNotYetSeen: "a start waited for the end of the position topic",
    Forgotten: "a decided transaction without its end was ended at a start",
    TransactionTimedOut: "the coordinator ended a transaction of a relay that was gone",
    Repeated: "at least once, an event was delivered again after a start",
    ToldUnordered: "at least once, a record was told of before an earlier one",
    ZombieDelivered: "at least once, a relay that had lost its source delivered something more",
    SwitchedToOnce: "exactly once went on from what was delivered at least once",
    BrokerDown: "a batch waited for a broker until its deadline",
    Refused: "the broker refused a record",
    RefusedAlone: "a refused record was convicted alone",
    Parked: "an event was parked behind its key",
    Redriven: "a parked key was released in order",
    Discarded: "the head of a parked key was discarded",
    StartedParked: "a relay started with parked keys",
    KilledReleasing: "a relay was killed while it released a key",
    KeepaliveInside: "a keepalive came inside a transaction",
    Adjacent: "a transaction began its commit exactly at the recorded position",
    ClockJumped: "the wall clock jumped",
    SlotAheadHalted: "a slot that went forward without the relay halted the source",
    SlotGoneHalted: "a slot that is gone halted the source",
    SystemHalted: "another database system halted the source",
    TimelineHalted: "another timeline halted the source",
}

/// How often each was seen.
#[derive(Clone, Debug)]
pub struct Seen(Vec<u64>);

impl Default for Seen {
    fn default() -> Self {
        Self(vec![0; Sometimes::ALL.len()])
    }
}

impl Seen {
    pub(crate) fn note(&mut self, what: Sometimes) {
        if let Some(count) = self.0.get_mut(what as usize) {
            *count += 1;
        }
    }

    /// Adds what another schedule has seen.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(&other.0) {
            *count += more;
        }
    }

    /// Each with its count.
    pub fn counts(&self) -> impl Iterator<Item = (Sometimes, u64)> + '_ {
        Sometimes::ALL.iter().copied().zip(self.0.iter().copied())
    }
}
