//! What becomes of a server's answer, phase by phase (RFC 8415, 18.2.9 and 18.2.10).

use super::{Dhcp6, Held, Phase, REFUSED_WAIT};
use alloc::vec::Vec;
use core::net::Ipv6Addr;
use core::time::Duration;
use narrowgate_model::Time;
use narrowgate_wire::dhcp6::{Answer, Ia, status};

impl Dhcp6 {
    /// An answer to what this phase has asked.
    pub(super) fn answered(&mut self, answer: Answer, now: Time) {
        self.limits(&answer);
        match self.phase {
            Phase::Soliciting => self.solicited(answer, now),
            Phase::Requesting if !answer.advertise && answer.server == self.offer.0 => {
                self.requested(answer, now)
            }
            Phase::Returning if !answer.advertise => self.returned(answer, now),
            Phase::Confirming if !answer.advertise => match answer.status {
                status::SUCCESS => {
                    self.counts.replies += 1;
                    self.bound(now);
                }
                status::NOT_ON_LINK => {
                    self.counts.refusals += 1;
                    self.held = None;
                    self.restart(now);
                }
                _ => self.counts.refusals += 1,
            },
            Phase::Renewing | Phase::Rebinding if !answer.advertise => self.extended(answer, now),
            _ => self.counts.foreign += 1,
        }
    }

    fn solicited(&mut self, answer: Answer, now: Time) {
        let good = answer.status == status::SUCCESS;
        let ia = answer.ia.as_ref().filter(|ia| good && ia.status == status::SUCCESS);
        let addresses: Vec<Ipv6Addr> =
            ia.iter().flat_map(|ia| &ia.addresses).filter(|a| a.valid > 0).map(|a| a.address).collect();
        if addresses.is_empty() {
            self.counts.refusals += 1;
            self.fruitless = true;
            self.informing(now);
        } else if answer.advertise {
            self.offer = (answer.server, addresses);
            self.begin(Phase::Requesting, now);
        } else if answer.rapid_commit {
            self.lend(answer, now);
        } else {
            self.counts.foreign += 1;
        }
    }

    fn returned(&mut self, answer: Answer, now: Time) {
        let good = |ia: &Ia| ia.status == status::SUCCESS && ia.addresses.iter().any(|a| a.valid > 0);
        if answer.status == status::SUCCESS && answer.ia.as_ref().is_some_and(good) {
            return self.lend(answer, now);
        }
        self.counts.refusals += 1;
        self.restart(now);
    }

    fn requested(&mut self, answer: Answer, now: Time) {
        let ia_status = answer.ia.as_ref().map_or(status::NO_ADDRS_AVAIL, |ia| ia.status);
        match (answer.status, ia_status) {
            (status::SUCCESS, status::SUCCESS) => self.lend(answer, now),
            (status::UNSPEC_FAIL, _) => self.counts.refusals += 1, // the timer asks again
            _ => {
                self.counts.refusals += 1;
                self.fruitless = true;
                self.held = None;
                self.wait(REFUSED_WAIT, now);
                self.informing(now);
            }
        }
    }

    fn extended(&mut self, answer: Answer, now: Time) {
        let Some(held) = &mut self.held else { return };
        let Some(ia) = answer.ia.as_ref().filter(|_| answer.status == status::SUCCESS) else {
            return self.counts.refusals += 1; // RFC 8415, 18.2.10.1: goes on, as if there were no answer
        };
        if self.phase == Phase::Renewing && answer.server != held.server {
            return self.counts.foreign += 1;
        }
        match ia.status {
            status::SUCCESS if !ia.addresses.is_empty() => self.lend(answer, now),
            status::NO_BINDING => {
                self.counts.refusals += 1;
                self.offer = (answer.server, held.list());
                self.begin(Phase::Requesting, now);
            }
            _ => self.counts.refusals += 1,
        }
    }

    /// A lease, or its extension.
    fn lend(&mut self, answer: Answer, now: Time) {
        let held = Held::of(answer, self.held.take(), self.ask.asked, now);
        if held.addresses.is_empty() {
            self.counts.refusals += 1;
            return self.wait(REFUSED_WAIT, now);
        }
        self.counts.replies += 1;
        self.fruitless = false;
        self.held = Some(held);
        self.wish.clear();
        self.bound(now);
    }

    /// How patient servers want their clients to be (RFC 8415, 21.24 and 21.25).
    pub(super) fn limits(&mut self, answer: &Answer) {
        let told = |seconds: Option<u32>| {
            seconds.filter(|s| (60..=86_400).contains(s)).map(|s| Duration::from_secs(s.into()))
        };
        self.most_solicit = told(answer.most_solicit).unwrap_or(self.most_solicit);
        self.most_inform = told(answer.most_inform).unwrap_or(self.most_inform);
    }
}
