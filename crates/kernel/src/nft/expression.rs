//! A rule as the kernel's expressions: a little machine with registers. What `nft --debug=netlink` prints for the text of
//! the same rule is what we send.

use narrowgate_model::Prefix;
use narrowgate_model::nft::{Action, CtDirection, Family, IpVersion, Match, Rule};
use netlink_bindings::nftables::{CmpOps, CtKeys, MetaKeys, PayloadBase, PushExprAttrs, PushExprListAttrs};
use netlink_bindings::traits::Pusher;
use netlink_bindings::utils::{finalize_nested_header, push_header, push_nested_header};
use std::ffi::CStr;
use std::net::{IpAddr, SocketAddr};

/// The expressions of a rule, as list elements.
pub(super) fn encode(family: Family, rule: &Rule) -> Vec<u8> {
    let mut list = List::default();
    let mut version = None;
    for one in &rule.matches {
        list.add_match(family, one, &mut version);
    }
    if let Some(name) = rule.counter {
        list.element(|e| {
            e.nested_data_objref().push_imm_type(super::OBJECT_COUNTER).push_imm_name_bytes(name.as_bytes());
        });
    }
    list.add_action(rule.action);
    list.bytes
}

#[derive(Default)]
struct List {
    bytes: Vec<u8>,
}

impl List {
    /// `version` is the IP version that the matches before this one have made sure of.
    fn add_match(&mut self, family: Family, one: &Match, version: &mut Option<IpVersion>) {
        match one {
            Match::Oif(name) => self.meta(MetaKeys::Oifname, &device(name)),
            Match::Iif(name) => self.meta(MetaKeys::Iifname, &device(name)),
            Match::OifIndex(index) => self.meta(MetaKeys::Oif, &index.to_ne_bytes()),
            Match::IifIndex(index) => self.meta(MetaKeys::Iif, &index.to_ne_bytes()),
            Match::Mark { value, mask, eq } => {
                self.load_meta(MetaKeys::Mark);
                self.mask(&mask.to_ne_bytes(), &[0; 4]);
                self.compare(if *eq { CmpOps::Eq } else { CmpOps::Neq }, &value.to_ne_bytes());
            }
            Match::NfProto(v) => self.version(Family::Inet, *v, version),
            Match::EtherType(number) => {
                self.meta(MetaKeys::Protocol, &number.to_be_bytes());
                *version = [IpVersion::V4, IpVersion::V6].into_iter().find(|v| ether_type(*v) == *number);
            }
            Match::L4Proto(number) => self.meta(MetaKeys::L4Proto, &[*number]),
            Match::Socket => {
                self.load_meta(MetaKeys::Skuid);
                self.compare(CmpOps::Gte, &[0; 4]);
            }
            Match::SkGid(gid) => self.meta(MetaKeys::Skgid, &gid.to_ne_bytes()),
            Match::SrcPort(port) => self.payload(PayloadBase::TransportHeader, 0, &port.to_be_bytes()),
            Match::DstPort(port) => self.payload(PayloadBase::TransportHeader, 2, &port.to_be_bytes()),
            Match::IcmpType(number) => self.payload(PayloadBase::TransportHeader, 0, &[*number]),
            Match::SrcAddr(prefix) => self.ip_address(family, prefix, [12, 8], version),
            Match::DstAddr(prefix) => self.ip_address(family, prefix, [16, 24], version),
            Match::DstInSet(set, v) => {
                if *version != Some(*v) {
                    self.version(family, *v, version);
                }
                self.load_destination(*v);
                self.with_set(c"lookup", set, &[(LOOKUP_REGISTER, &REG_1.to_be_bytes())]);
            }
            Match::NdTarget(prefix) => self.prefix(PayloadBase::TransportHeader, 8, prefix),
            Match::CtDirection(direction) => {
                self.load_ct(CtKeys::Direction);
                self.compare(CmpOps::Eq, &[matches!(direction, CtDirection::Reply).into()]);
            }
            Match::CtState(bits) => {
                self.load_ct(CtKeys::State);
                self.mask(&bits.to_ne_bytes(), &[0; 4]);
                self.compare(CmpOps::Neq, &[0; 4]);
            }
            Match::ArpOp(number) => self.payload(PayloadBase::NetworkHeader, 6, &number.to_be_bytes()),
            Match::ArpSender(prefix) => self.prefix(PayloadBase::NetworkHeader, 14, prefix),
            Match::ArpTarget(prefix) => self.prefix(PayloadBase::NetworkHeader, 24, prefix),
        }
    }

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
                self.load_meta(MetaKeys::Mark);
                self.mask(&(!mask).to_ne_bytes(), &value.to_ne_bytes());
                self.element(|e| {
                    e.nested_data_meta().push_key(MetaKeys::Mark as u32).push_sreg(REG_1);
                });
            }
            Action::Dnat(to) => self.dnat(to),
        }
    }

    fn load_destination(&mut self, version: IpVersion) {
        let (offset, len) = if version == IpVersion::V6 { (24, 16) } else { (16, 4) };
        self.load_payload(PayloadBase::NetworkHeader, offset, len);
    }

    /// `update @set { register timeout seconds }`.
    fn refresh(&mut self, set: &str, seconds: u32) {
        let milliseconds = u64::from(seconds) * 1000;
        let rest: [(u16, &[u8]); 3] = [
            (DYNSET_OPERATION, &DYNSET_UPDATE.to_be_bytes()),
            (DYNSET_KEY, &REG_1.to_be_bytes()),
            (DYNSET_TIMEOUT, &milliseconds.to_be_bytes()),
        ];
        self.with_set(c"dynset", set, &rest);
    }

    /// An expression about a set. The bindings do not know `dynset`, and number the attributes of `lookup` wrongly.
    fn with_set(&mut self, name: &CStr, set: &str, rest: &[(u16, &[u8])]) {
        self.element(|e| {
            let mut e = e.push_name(name);
            let bytes = e.as_vec_mut();
            let data = push_nested_header(bytes, EXPRESSION_DATA);
            push_header(bytes, SET_NAME, set.len() as u16 + 1);
            bytes.extend_from_slice(set.as_bytes());
            bytes.push(0);
            for (kind, value) in rest {
                push_header(bytes, *kind, value.len() as u16);
                bytes.extend_from_slice(value);
            }
            finalize_nested_header(bytes, data);
        });
    }

    fn dnat(&mut self, to: SocketAddr) {
        let (family, address) = match to.ip() {
            IpAddr::V4(a) => (NFPROTO_IPV4, a.octets().to_vec()),
            IpAddr::V6(a) => (NFPROTO_IPV6, a.octets().to_vec()),
        };
        for (register, data) in [(REG_1, &address[..]), (REG_2, &to.port().to_be_bytes()[..])] {
            self.element(|e| {
                e.nested_data_immediate().push_dreg(register).nested_data().push_value(data);
            });
        }
        self.element(|e| {
            e.nested_data_nat()
                .push_type(NAT_DNAT)
                .push_family(family)
                .push_reg_addr_min(REG_1)
                .push_reg_proto_min(REG_2)
                .push_flags(NAT_RANGE_PROTO_SPECIFIED);
        });
    }

    /// A match on an address of the IP header, and before it on the IP version, where that is not settled yet.
    fn ip_address(
        &mut self,
        family: Family,
        prefix: &Prefix,
        offsets: [u32; 2],
        settled: &mut Option<IpVersion>,
    ) {
        let (version, offset) = match prefix.addr {
            IpAddr::V4(_) => (IpVersion::V4, offsets[0]),
            IpAddr::V6(_) => (IpVersion::V6, offsets[1]),
        };
        if *settled != Some(version) {
            self.version(family, version, settled);
        }
        self.prefix(PayloadBase::NetworkHeader, offset, prefix);
    }

    fn version(&mut self, family: Family, version: IpVersion, settled: &mut Option<IpVersion>) {
        match family {
            Family::Netdev => self.meta(MetaKeys::Protocol, &ether_type(version).to_be_bytes()),
            _ => self.meta(MetaKeys::Nfproto, &[nf_proto(version)]),
        }
        *settled = Some(version);
    }

    fn prefix(&mut self, base: PayloadBase, offset: u32, prefix: &Prefix) {
        let (value, mask) =
            match (prefix.network().addr, Prefix::new(ones(prefix.addr), prefix.len).network().addr) {
                (IpAddr::V4(value), IpAddr::V4(mask)) => (value.octets().to_vec(), mask.octets().to_vec()),
                (IpAddr::V6(value), IpAddr::V6(mask)) => (value.octets().to_vec(), mask.octets().to_vec()),
                _ => return, // both are of the prefix's family
            };
        self.load_payload(base, offset, value.len());
        if mask.iter().any(|byte| *byte != 0xff) {
            self.mask(&mask, &vec![0; value.len()]);
        }
        self.compare(CmpOps::Eq, &value);
    }

    fn meta(&mut self, key: MetaKeys, value: &[u8]) {
        self.load_meta(key);
        self.compare(CmpOps::Eq, value);
    }

    fn payload(&mut self, base: PayloadBase, offset: u32, value: &[u8]) {
        self.load_payload(base, offset, value.len());
        self.compare(CmpOps::Eq, value);
    }

    fn load_meta(&mut self, key: MetaKeys) {
        self.element(|e| {
            e.nested_data_meta().push_key(key as u32).push_dreg(REG_1);
        });
    }

    fn load_ct(&mut self, key: CtKeys) {
        self.element(|e| {
            e.nested_data_ct().push_key(key as u32).push_dreg(REG_1);
        });
    }

    fn load_payload(&mut self, base: PayloadBase, offset: u32, len: usize) {
        self.element(|e| {
            e.nested_data_payload()
                .push_dreg(REG_1)
                .push_base(base as u32)
                .push_offset(offset)
                .push_len(len as u32);
        });
    }

    fn compare(&mut self, op: CmpOps, value: &[u8]) {
        self.element(|e| {
            e.nested_data_cmp().push_sreg(REG_1).push_op(op as u32).nested_data().push_value(value);
        });
    }

    /// `register = register & mask ^ xor`.
    fn mask(&mut self, mask: &[u8], xor: &[u8]) {
        self.element(|e| {
            e.nested_data_bitwise()
                .push_sreg(REG_1)
                .push_dreg(REG_1)
                .push_len(mask.len() as u32)
                .nested_mask()
                .push_value(mask)
                .end_nested()
                .nested_xor()
                .push_value(xor);
        });
    }

    fn verdict(&mut self, code: u32) {
        self.element(|e| {
            e.nested_data_immediate().push_dreg(REG_VERDICT).nested_data().nested_verdict().push_code(code);
        });
    }

    fn element(&mut self, fill: impl FnOnce(PushExprAttrs<PushExprListAttrs<&mut Vec<u8>>>)) {
        fill(PushExprListAttrs::new(&mut self.bytes).nested_elem());
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
        IpVersion::V4 => NFPROTO_IPV4 as u8,
        IpVersion::V6 => NFPROTO_IPV6 as u8,
    }
}

fn ether_type(version: IpVersion) -> u16 {
    match version {
        IpVersion::V4 => 0x0800,
        IpVersion::V6 => 0x86dd,
    }
}

fn ones(like: IpAddr) -> IpAddr {
    if like.is_ipv6() { IpAddr::from([0xff; 16]) } else { IpAddr::from([0xff; 4]) }
}

pub(super) const NF_DROP: u32 = 0;
pub(super) const NF_ACCEPT: u32 = 1;
const REG_VERDICT: u32 = 0;
const REG_1: u32 = 1;
const REG_2: u32 = 2;
const NFPROTO_IPV4: u32 = 2;
const NFPROTO_IPV6: u32 = 10;
/// `NFTA_EXPR_DATA`; `NFTA_LOOKUP_SET` and `NFTA_DYNSET_SET_NAME`; `NFTA_LOOKUP_SREG`; others of `NFTA_DYNSET_*`; `NFT_DYNSET_OP_UPDATE`.
const EXPRESSION_DATA: u16 = 2;
const SET_NAME: u16 = 1;
const LOOKUP_REGISTER: u16 = 2;
const DYNSET_OPERATION: u16 = 3;
const DYNSET_KEY: u16 = 4;
const DYNSET_TIMEOUT: u16 = 6;
const DYNSET_UPDATE: u32 = 1;
const NAT_DNAT: u32 = 1;
const NAT_RANGE_PROTO_SPECIFIED: u32 = 2;
