//! A rule as the kernel's expressions: a little machine with registers. What `nft --debug=netlink` prints for the text of
//! the same rule is what we send.

use super::{DATA_VALUE, LIST_ELEMENT};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use narrowgate_model::Prefix;
use narrowgate_model::nft::{Action, CtDirection, Family, IpVersion, Match, Rule};
use narrowgate_sys::netlink::{NESTED, Put};

/// Appends the expressions of a rule, as list elements.
pub(super) fn encode(body: &mut Vec<u8>, family: Family, rule: &Rule) {
    let mut list = List { body, family, version: None };
    for one in &rule.matches {
        list.add_match(one);
    }
    if let Some(name) = rule.counter {
        let start = list.begin("objref");
        list.number(OBJREF_TYPE, super::OBJECT_COUNTER);
        list.body.put_text(OBJREF_NAME, name);
        list.end(start);
    }
    list.add_action(rule.action);
}

struct List<'a> {
    body: &'a mut Vec<u8>,
    family: Family,
    /// The IP version that the matches up to now have made sure of.
    version: Option<IpVersion>,
}

impl List<'_> {
    #[inline(never)]
    fn add_match(&mut self, one: &Match) {
        match one {
            Match::Oif(name) => self.meta(META_OIFNAME, &device(name)),
            Match::Iif(name) => self.meta(META_IIFNAME, &device(name)),
            Match::OifIndex(index) => self.meta(META_OIF, &index.to_ne_bytes()),
            Match::IifIndex(index) => self.meta(META_IIF, &index.to_ne_bytes()),
            Match::Mark { value, mask, eq } => {
                self.load("meta", META_MARK);
                self.mask(&mask.to_ne_bytes(), &[0; 4]);
                self.compare(if *eq { CMP_EQ } else { CMP_NEQ }, &value.to_ne_bytes());
            }
            Match::NfProto(v) => self.version(Family::Inet, *v),
            Match::EtherType(number) => {
                self.meta(META_PROTOCOL, &number.to_be_bytes());
                self.version = [IpVersion::V4, IpVersion::V6].into_iter().find(|v| ether_type(*v) == *number);
            }
            Match::L4Proto(number) => self.meta(META_L4PROTO, &[*number]),
            Match::Socket => {
                self.load("meta", META_SKUID);
                self.compare(CMP_GTE, &[0; 4]);
            }
            Match::SkGid(gid) => self.meta(META_SKGID, &gid.to_ne_bytes()),
            Match::SrcPort(port) => self.payload(TRANSPORT_HEADER, 0, &port.to_be_bytes()),
            Match::DstPort(port) => self.payload(TRANSPORT_HEADER, 2, &port.to_be_bytes()),
            Match::IcmpType(number) => self.payload(TRANSPORT_HEADER, 0, &[*number]),
            Match::SrcAddr(prefix) => self.ip_address(prefix, 12, 8),
            Match::DstAddr(prefix) => self.ip_address(prefix, 16, 24),
            Match::DstInSet(set, version) => {
                self.ensure(*version);
                self.load_destination(*version);
                let start = self.begin("lookup");
                self.body.put_text(LOOKUP_SET, set);
                self.number(LOOKUP_REGISTER, REG_1);
                self.end(start);
            }
            Match::NdTarget(prefix) => self.prefix(TRANSPORT_HEADER, 8, prefix),
            Match::CtDirection(direction) => {
                self.load("ct", CT_DIRECTION);
                self.compare(CMP_EQ, &[matches!(direction, CtDirection::Reply).into()]);
            }
            Match::CtState(bits) => {
                self.load("ct", CT_STATE);
                self.mask(&bits.to_ne_bytes(), &[0; 4]);
                self.compare(CMP_NEQ, &[0; 4]);
            }
            Match::ArpOp(number) => self.payload(NETWORK_HEADER, 6, &number.to_be_bytes()),
            Match::ArpSender(prefix) => self.prefix(NETWORK_HEADER, 14, prefix),
            Match::ArpTarget(prefix) => self.prefix(NETWORK_HEADER, 24, prefix),
        }
    }

    #[inline(never)]
    fn add_action(&mut self, action: Action) {
        match action {
            Action::Continue => {}
            Action::Accept => self.verdict(NF_ACCEPT),
            Action::AcceptAndRefresh { set, version, seconds } => {
                self.load_destination(version);
                self.refresh(set, seconds);
                self.verdict(NF_ACCEPT);
            }
            Action::Drop => self.verdict(NF_DROP),
            Action::SetMark { value, mask } => {
                self.load("meta", META_MARK);
                self.mask(&(!mask).to_ne_bytes(), &value.to_ne_bytes());
                self.expression("meta", &[(LOAD_KEY, META_MARK), (META_SOURCE, REG_1)], &[]);
            }
            Action::Dnat(to) => self.dnat(to),
        }
    }

    fn load_destination(&mut self, version: IpVersion) {
        let (offset, len) = if version == IpVersion::V6 { (24, 16) } else { (16, 4) };
        self.load_payload(NETWORK_HEADER, offset, len);
    }

    /// `update @set { register timeout seconds }`.
    fn refresh(&mut self, set: &str, seconds: u32) {
        let milliseconds = u64::from(seconds) * 1000;
        let start = self.begin("dynset");
        self.body.put_text(DYNSET_SET, set);
        self.number(DYNSET_OPERATION, DYNSET_UPDATE);
        self.number(DYNSET_KEY, REG_1);
        self.body.put(DYNSET_TIMEOUT, &milliseconds.to_be_bytes());
        self.end(start);
    }

    fn dnat(&mut self, to: SocketAddr) {
        let family = nf_proto(if to.is_ipv6() { IpVersion::V6 } else { IpVersion::V4 });
        let (address, len) = octets(to.ip());
        let address = address.get(..len).unwrap_or_default();
        self.immediate(REG_1, address);
        self.immediate(REG_2, &to.port().to_be_bytes());
        let numbers = [
            (NAT_TYPE, NAT_DNAT),
            (NAT_FAMILY, family.into()),
            (NAT_ADDRESS, REG_1),
            (NAT_PORT, REG_2),
            (NAT_FLAGS, NAT_RANGE_PROTO_SPECIFIED),
        ];
        self.expression("nat", &numbers, &[]);
    }

    /// A match on an address of the IP header, and before it on the IP version, where that is not settled yet.
    fn ip_address(&mut self, prefix: &Prefix, v4: u32, v6: u32) {
        let (version, offset) = if prefix.is_ipv6() { (IpVersion::V6, v6) } else { (IpVersion::V4, v4) };
        self.ensure(version);
        self.prefix(NETWORK_HEADER, offset, prefix);
    }

    fn ensure(&mut self, version: IpVersion) {
        if self.version != Some(version) {
            self.version(self.family, version);
        }
    }

    fn version(&mut self, family: Family, version: IpVersion) {
        match family {
            Family::Netdev => self.meta(META_PROTOCOL, &ether_type(version).to_be_bytes()),
            _ => self.meta(META_NFPROTO, &[nf_proto(version)]),
        }
        self.version = Some(version);
    }

    fn prefix(&mut self, base: u32, offset: u32, prefix: &Prefix) {
        let (mut value, len) = octets(prefix.addr);
        let mut mask = [0; 16];
        let mut left = u32::from(prefix.len);
        for (value, mask) in value.iter_mut().zip(&mut mask) {
            *mask = !(0xff_u16 >> left.min(8)) as u8;
            *value &= *mask;
            left = left.saturating_sub(8);
        }
        let (value, mask) = (value.get(..len).unwrap_or_default(), mask.get(..len).unwrap_or_default());
        self.load_payload(base, offset, len);
        if usize::from(prefix.len) < len * 8 {
            self.mask(mask, [0; 16].get(..len).unwrap_or_default());
        }
        self.compare(CMP_EQ, value);
    }

    fn meta(&mut self, key: u32, value: &[u8]) {
        self.load("meta", key);
        self.compare(CMP_EQ, value);
    }

    fn payload(&mut self, base: u32, offset: u32, value: &[u8]) {
        self.load_payload(base, offset, value.len());
        self.compare(CMP_EQ, value);
    }

    /// `meta` and `ct`, which number their attributes alike.
    fn load(&mut self, name: &str, key: u32) {
        self.expression(name, &[(LOAD_KEY, key), (LOAD_REGISTER, REG_1)], &[]);
    }

    fn load_payload(&mut self, base: u32, offset: u32, len: usize) {
        let numbers = [
            (PAYLOAD_REGISTER, REG_1),
            (PAYLOAD_BASE, base),
            (PAYLOAD_OFFSET, offset),
            (PAYLOAD_LEN, len as u32),
        ];
        self.expression("payload", &numbers, &[]);
    }

    fn compare(&mut self, op: u32, value: &[u8]) {
        self.expression("cmp", &[(CMP_REGISTER, REG_1), (CMP_OP, op)], &[(CMP_DATA, value)]);
    }

    /// `register = register & mask ^ xor`.
    fn mask(&mut self, mask: &[u8], xor: &[u8]) {
        let numbers = [(BITWISE_FROM, REG_1), (BITWISE_TO, REG_1), (BITWISE_LEN, mask.len() as u32)];
        self.expression("bitwise", &numbers, &[(BITWISE_MASK, mask), (BITWISE_XOR, xor)]);
    }

    fn immediate(&mut self, register: u32, data: &[u8]) {
        self.expression("immediate", &[(IMMEDIATE_REGISTER, register)], &[(IMMEDIATE_DATA, data)]);
    }

    fn verdict(&mut self, code: u32) {
        let start = self.begin("immediate");
        self.number(IMMEDIATE_REGISTER, REG_VERDICT);
        let data = self.body.open(IMMEDIATE_DATA | NESTED);
        let verdict = self.body.open(DATA_VERDICT | NESTED);
        self.number(VERDICT_CODE, code);
        self.body.close(verdict);
        self.body.close(data);
        self.end(start);
    }

    /// An expression with so many numbers, and data for registers.
    fn expression(&mut self, name: &str, numbers: &[(u16, u32)], data: &[(u16, &[u8])]) {
        let start = self.begin(name);
        for (kind, number) in numbers {
            self.number(*kind, *number);
        }
        for (kind, value) in data {
            let data = self.body.open(*kind | NESTED);
            self.body.put(DATA_VALUE, value);
            self.body.close(data);
        }
        self.end(start);
    }

    /// Where the expression begins, and where its own attributes do.
    fn begin(&mut self, name: &str) -> (usize, usize) {
        let element = self.body.open(LIST_ELEMENT | NESTED);
        self.body.put_text(EXPRESSION_NAME, name);
        (element, self.body.open(EXPRESSION_DATA | NESTED))
    }

    fn end(&mut self, (element, data): (usize, usize)) {
        self.body.close(data);
        self.body.close(element);
    }

    fn number(&mut self, kind: u16, number: u32) {
        self.body.put_number(kind, number.to_be());
    }
}

/// The bytes of an address, and how many they are.
fn octets(addr: IpAddr) -> ([u8; 16], usize) {
    match addr {
        IpAddr::V4(addr) => {
            let [a, b, c, d] = addr.octets();
            ([a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 4)
        }
        IpAddr::V6(addr) => (addr.octets(), 16),
    }
}

/// A device name in a register of 16 bytes. Longer ones there are none.
fn device(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes.iter_mut().take(15).zip(name.bytes()).for_each(|(to, from)| *to = from);
    bytes
}

fn nf_proto(version: IpVersion) -> u8 {
    match version {
        IpVersion::V4 => 2,
        IpVersion::V6 => 10,
    }
}

fn ether_type(version: IpVersion) -> u16 {
    match version {
        IpVersion::V4 => 0x0800,
        IpVersion::V6 => 0x86dd,
    }
}

pub(super) const NF_DROP: u32 = 0;
pub(super) const NF_ACCEPT: u32 = 1;
const REG_VERDICT: u32 = 0;
const REG_1: u32 = 1;
const REG_2: u32 = 2;
/// Attributes of the expressions (`NFTA_*`), and what may be in them (`NFT_*`; linux/netfilter/nf_tables.h).
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
/// `NFTA_META_DREG` and `NFTA_CT_DREG`, `NFTA_META_KEY` and `NFTA_CT_KEY`.
const LOAD_REGISTER: u16 = 1;
const LOAD_KEY: u16 = 2;
const META_SOURCE: u16 = 3;
const META_PROTOCOL: u32 = 1;
const META_MARK: u32 = 3;
const META_IIF: u32 = 4;
const META_OIF: u32 = 5;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_SKUID: u32 = 10;
const META_SKGID: u32 = 11;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const CT_STATE: u32 = 0;
const CT_DIRECTION: u32 = 1;
const PAYLOAD_REGISTER: u16 = 1;
const PAYLOAD_BASE: u16 = 2;
const PAYLOAD_OFFSET: u16 = 3;
const PAYLOAD_LEN: u16 = 4;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const CMP_REGISTER: u16 = 1;
const CMP_OP: u16 = 2;
const CMP_DATA: u16 = 3;
const CMP_EQ: u32 = 0;
const CMP_NEQ: u32 = 1;
const CMP_GTE: u32 = 5;
const BITWISE_FROM: u16 = 1;
const BITWISE_TO: u16 = 2;
const BITWISE_LEN: u16 = 3;
const BITWISE_MASK: u16 = 4;
const BITWISE_XOR: u16 = 5;
const IMMEDIATE_REGISTER: u16 = 1;
const IMMEDIATE_DATA: u16 = 2;
const NAT_TYPE: u16 = 1;
const NAT_FAMILY: u16 = 2;
const NAT_ADDRESS: u16 = 3;
const NAT_PORT: u16 = 5;
const NAT_FLAGS: u16 = 7;
const NAT_DNAT: u32 = 1;
const NAT_RANGE_PROTO_SPECIFIED: u32 = 2;
const OBJREF_TYPE: u16 = 1;
const OBJREF_NAME: u16 = 2;
const LOOKUP_SET: u16 = 1;
const LOOKUP_REGISTER: u16 = 2;
const DYNSET_SET: u16 = 1;
const DYNSET_OPERATION: u16 = 3;
const DYNSET_KEY: u16 = 4;
const DYNSET_TIMEOUT: u16 = 6;
const DYNSET_UPDATE: u32 = 1;
