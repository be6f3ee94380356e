//! What is counted. Each counter is something that a person would ask for.

use alloc::vec::Vec;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What was counted since the start.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// The counters' names, in the order of [`values`](Self::values).
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];

            #[inline(never)]
            fn each(&mut self) -> [&mut u64; Counters::NAMES.len()] {
                [$(&mut self.$name),*]
            }

        }
    };
}

impl Counters {
    /// The counters in the order of [`NAMES`](Self::NAMES).
    pub fn values(&self) -> Vec<u64> {
        self.clone().each().map(|value| *value).to_vec()
    }

    /// Counters from their values; missing ones are 0, others are left out.
    pub fn from_values(values: &[u64]) -> Counters {
        let mut counters = Counters::default();
        counters.add_values(values);
        counters
    }

    /// Adds another process's counters: a resolver that was started again goes on counting.
    pub fn add(&mut self, other: &Counters) {
        self.add_values(&other.values());
    }

    fn add_values(&mut self, values: &[u64]) {
        for (sum, value) in self.each().into_iter().zip(values) {
            *sum = sum.wrapping_add(*value);
        }
    }
}

counters! {
    /// Messages from clients.
    queries,
    /// Answers passed on from servers.
    answers,
    /// Answers out of the cache.
    cached,
    /// Answers out of the cache whose time was over, since no server answered.
    stale,
    /// Peers' answers fetched anew before their time was over.
    prefetched,
    /// SERVFAIL of our own: no server answered, or no uplink.
    failed,
    /// Of those, for want of an uplink.
    no_uplink,
    /// Clients' messages that are no queries: FORMERR or NOTIMP.
    malformed,
    /// Clients' messages without an answer: too short, or answers themselves.
    ignored,
    /// Names that are not on the list, under `strict`.
    blocked,
    /// Refused because too much was in flight.
    refused,
    /// Clients' retries of a query under way.
    retries,
    /// Queries that joined another client's.
    joined,
    /// Messages sent to servers.
    asked,
    /// Of those, to a second server because the first took too long.
    hedged,
    /// Servers' refusals and failures that were followed by another server.
    server_failures,
    /// Servers that could not be reached.
    unreachable,
    /// Messages from a server's address with no such id in flight: late, twice, or forged.
    unmatched,
    /// Messages with the right id and another question: forged, or a broken server.
    mismatched,
    /// Answers whose letters had another case than was asked.
    wrong_case,
    /// Answers held back while the uplink lacks their IP version.
    held,
}
