//! The servers of the simulated network: what each makes of a query, and messages to ask with.

/// How a server behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Answers.
    Good,
    /// Stays silent.
    Dead,
    /// Nobody listens there: an ICMP error comes back.
    Closed,
    /// There is no route.
    NoRoute,
    /// Answers with another id.
    WrongId,
    /// Answers another question.
    WrongQuestion,
    /// REFUSED.
    Refuses,
    /// SERVFAIL.
    Fails,
    /// NOTIMP without a question.
    NotImplemented,
    /// Silent to queries with an OPT.
    DropsEdns,
    /// FORMERR to queries with an OPT, header only.
    HatesEdns,
    /// Silent to AAAA.
    DropsAaaa,
    /// Gives the name back in small letters.
    LowersCase,
    /// Sets TC on every UDP answer.
    Truncates,
    /// Silent by TCP.
    DropsTcp,
    /// Answers by TCP, silent by UDP.
    OnlyTcp,
    /// Gives cookies (RFC 7873), and BADCOOKIE to who has none of its own.
    WantsCookies,
    /// Gives cookies to who sends one, and answers all.
    GivesCookies,
    /// Silent to queries with a cookie.
    DropsCookies,
    /// FORMERR to queries with a cookie.
    HatesCookies,
    /// Gives somebody else's cookie back.
    WrongCookie,
}

impl Manner {
    /// Every one.
    pub const ALL: [Manner; 21] = [
        Manner::Good,
        Manner::Dead,
        Manner::Closed,
        Manner::NoRoute,
        Manner::WrongId,
        Manner::WrongQuestion,
        Manner::Refuses,
        Manner::Fails,
        Manner::NotImplemented,
        Manner::DropsEdns,
        Manner::HatesEdns,
        Manner::DropsAaaa,
        Manner::LowersCase,
        Manner::Truncates,
        Manner::DropsTcp,
        Manner::OnlyTcp,
        Manner::WantsCookies,
        Manner::GivesCookies,
        Manner::DropsCookies,
        Manner::HatesCookies,
        Manner::WrongCookie,
    ];
}

/// A server.
#[derive(Debug, Clone, Copy)]
pub struct Host {
    pub manner: Manner,
    /// Milliseconds there and back.
    pub rtt: u64,
    /// Packets lost of a hundred.
    pub loss: u64,
}

/// What a server of this kind answers. `lifelike`: with records as their types have them, aliases, names that do not exist, and more
/// than fits a datagram; else one record whatever is asked.
pub fn answer(manner: Manner, tcp: bool, query: &[u8], lifelike: bool) -> Option<Vec<u8>> {
    use Manner::*;
    let end = question_end(query);
    let has_opt = query[11] > 0;
    let qtype = u16::from_be_bytes([query[end - 4], query[end - 3]]);
    let silent = match manner {
        Dead => true,
        DropsEdns => has_opt,
        DropsAaaa => qtype == 28,
        DropsTcp => tcp,
        OnlyTcp => !tcp,
        DropsCookies => cookie(query).is_some(),
        _ => false,
    };
    if silent {
        return None;
    }
    let mut bytes = query[..end].to_vec();
    bytes[2] = 0x80 | query[2] & 1;
    bytes[3] = 0x80;
    bytes[6..12].fill(0);
    match manner {
        WrongId => bytes[0] ^= 0x55,
        WrongQuestion => bytes[13] ^= 1,
        Refuses => bytes[3] |= 5,
        Fails => bytes[3] |= 2,
        NotImplemented => {
            bytes[3] |= 4;
            bytes[5] = 0;
            bytes.truncate(12);
        }
        HatesEdns if has_opt => {
            bytes[3] |= 1;
            bytes[5] = 0;
            bytes.truncate(12);
        }
        LowersCase => bytes[12..end].make_ascii_lowercase(),
        Truncates if !tcp => bytes[2] |= 2,
        HatesCookies if cookie(query).is_some() => bytes[3] |= 1,
        WantsCookies if !tcp && has_opt && cookie(query).is_none_or(|c| c.len() < 16) => bytes[3] |= 7,
        _ => {}
    }
    if bytes[3] & 0xf == 0 && bytes[2] & 2 == 0 {
        if lifelike {
            add_records(&mut bytes, qtype, tcp, query);
        } else {
            bytes[7] = 1;
            add_record(&mut bytes, qtype, 300, &[10, 0, 0, 1]);
        }
    }
    if let Some(theirs) = cookie(query)
        && matches!(manner, WantsCookies | GivesCookies | WrongCookie)
    {
        let mut ours = theirs[..8].to_vec();
        ours[0] ^= u8::from(manner == WrongCookie);
        bytes[11] = 1;
        let extended = u8::from(bytes[3] & 0xf == 7);
        bytes.extend([0, 0, 41, 4, 208, extended, 0, 0, 0, 0, 20, 0, 10, 0, 16]);
        bytes.extend(ours);
        bytes.extend(b"a server");
    }
    Some(bytes)
}

/// By the name's first letter: `x` does not exist, `z` has no records, `c` is an alias, and the fourth byte says how long it lives.
fn add_records(bytes: &mut Vec<u8>, qtype: u16, tcp: bool, query: &[u8]) {
    let end = question_end(query);
    let name = query[12..end - 4].to_ascii_lowercase();
    let seconds = u32::from(name.get(2).copied().unwrap_or(0)) % 16 * 2;
    if matches!(name.get(1), Some(b'x' | b'z')) {
        bytes[3] |= 3 * u8::from(name[1] == b'x');
        bytes[9] = 1;
        let minimum = [0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 9];
        return add_record(bytes, 6, seconds, &minimum);
    }
    if name.get(1) == Some(&b'c') {
        bytes[7] += 1;
        add_record(bytes, 5, seconds, b"\x06target\x07example\0");
    }
    let sum = name.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) % 64;
    let address = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, sum];
    let data = match qtype {
        1 => vec![192, 0, 2, sum],
        28 => address.to_vec(),
        16 => [b"\xff", &[b'x'; 255][..]].concat().repeat(2 + usize::from(sum) % 8),
        _ => vec![sum; 9],
    };
    bytes[7] += 1;
    add_record(bytes, qtype, seconds, &data);
    let room =
        if query[11] > 0 { usize::from(u16::from_be_bytes([query[end + 3], query[end + 4]])) } else { 512 };
    if !tcp && bytes.len() + 39 > room {
        bytes.truncate(end);
        bytes[2] |= 2;
        bytes[6..10].fill(0);
    }
}

fn add_record(bytes: &mut Vec<u8>, rtype: u16, seconds: u32, data: &[u8]) {
    bytes.extend([0xc0, 12]);
    bytes.extend(rtype.to_be_bytes());
    bytes.extend([0, 1]);
    bytes.extend(seconds.to_be_bytes());
    bytes.extend((data.len() as u16).to_be_bytes());
    bytes.extend(data);
}

/// A query; with an OPT if `udp` is not 0.
pub fn query(id: u16, name: &str, qtype: u16, udp: u16) -> Vec<u8> {
    let mut m = vec![(id >> 8) as u8, id as u8, 1, 0, 0, 1, 0, 0, 0, 0, 0, (udp > 0) as u8];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        m.push(label.len() as u8);
        m.extend(label.bytes());
    }
    m.push(0);
    m.extend(qtype.to_be_bytes());
    m.extend([0, 1]);
    if udp > 0 {
        m.extend([0, 0, 41, (udp >> 8) as u8, udp as u8, 0, 0, 0, 0, 0, 0]);
    }
    m
}

/// The cookie in a query whose OPT is its last record.
pub fn cookie(query: &[u8]) -> Option<&[u8]> {
    let options = query.get(question_end(query) + 11..)?;
    (query[11] > 0 && options.first_chunk() == Some(&[0, 10])).then(|| &options[4..])
}

/// Where the question of a well-formed message ends.
pub fn question_end(message: &[u8]) -> usize {
    let mut at = 12;
    while message[at] != 0 {
        at += 1 + usize::from(message[at]);
    }
    at + 5
}

pub fn rcode(message: &[u8]) -> u8 {
    message[3] & 0xf
}
