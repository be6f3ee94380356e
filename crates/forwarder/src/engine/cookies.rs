//! Cookies towards one server (RFC 7873): 64 more bits that a forger has to guess, and what some servers want to see before they answer.
//!
//! 1. A server that is known to bear EDNS gets a cookie with the next query that has an OPT; a client's own cookie is left as it is.
//! 2. If the answer brings one, the server speaks cookies. An answer with a wrong one is not believed.
//! 3. One without any (errors do not count) is believed until the server has given [`PROVEN`] in a row: a household's router may pass options on, and then
//!    answer from its cache without them. After that it is not, once; the question is asked again without a cookie.
//! 4. A server that does not speak them, drops such queries or refuses them is left in peace for [`PAUSE`].

use alloc::vec::Vec;
use core::time::Duration;
use narrowgate_model::Time;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Cookies {
    /// Ours for this server, once it was sent.
    client: Option<[u8; 8]>,
    /// The server's, as it gave it last.
    server: Vec<u8>,
    /// Answers with a cookie in a row.
    in_a_row: u8,
    off_until: Time,
}

impl Cookies {
    /// Whether to send one now.
    pub fn are_on(&self, now: Time) -> bool {
        self.off_until <= now
    }

    /// Whether the server gave one.
    pub fn are_spoken(&self) -> bool {
        self.in_a_row > 0
    }

    /// Our cookie and the server's. `random` is used the first time.
    pub fn outgoing(&mut self, random: impl FnOnce() -> u64) -> (&[u8], &[u8]) {
        (self.client.get_or_insert_with(|| random().to_be_bytes()), &self.server)
    }

    /// An answer with a cookie. Whether it may be believed.
    pub fn came(&mut self, client: &[u8], server: &[u8]) -> bool {
        let ours = self.client.is_some_and(|ours| ours == client);
        if ours && (8..=32).contains(&server.len()) {
            self.server.clear();
            self.server.extend_from_slice(server);
            self.in_a_row = self.in_a_row.saturating_add(1);
        }
        ours
    }

    /// An answer without. Whether it may be believed.
    pub fn missing(&mut self, now: Time) -> bool {
        let believed = self.in_a_row < PROVEN;
        self.give_up(now);
        believed
    }

    /// It did not answer a query with a cookie. If it never gave one, that may be why.
    pub fn unanswered(&mut self, now: Time) {
        if !self.are_spoken() {
            self.give_up(now);
        }
    }

    /// None for a while.
    pub fn give_up(&mut self, now: Time) {
        *self = Cookies { off_until: now + PAUSE, ..Cookies::default() };
    }
}

/// So many answers with a cookie mean that the next one has to have one too.
const PROVEN: u8 = 16;
/// How long a server is asked without: it may be replaced by a better one.
const PAUSE: Duration = Duration::from_secs(3600);
