//! The command line of `narrowgate forward`.

use super::said;
use crate::words::{Word, Words};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Display;
use core::net::SocketAddr;
use narrowgate_forwarder::child::MAX_LISTENERS;
use narrowgate_model::{Mark, Server, decimal, socket_address};
use narrowgate_sys::path::PathBuf;

/// What was asked for.
#[derive(Debug)]
pub(super) struct Arguments {
    pub listen: Vec<SocketAddr>,
    pub mark: Option<Mark>,
    pub source: Source,
    pub cache: usize,
}

/// Where the servers come from.
#[derive(Debug)]
pub(super) enum Source {
    Servers(Vec<Server>),
    File(PathBuf),
}

impl Arguments {
    /// From the words after `forward`; the error is for the user.
    #[inline(never)]
    pub fn parse(args: &[PathBuf]) -> Result<Arguments, String> {
        let mut listen: Vec<SocketAddr> = Vec::new();
        let mut servers: Vec<Server> = Vec::new();
        let (mut mark, mut file, mut cache) = (None, None, 0);
        let mut words = Words::new("forward", args);
        while let Some(word) = words.next()? {
            if let Word::Other(_) = word {
                return Err(words.unexpected(&word));
            }
            let text = match words.option() {
                "--listen" | "--mark" | "--server" | "--cache" => words.text()?,
                "--resolv-file" => {
                    file = Some(PathBuf::from(words.value()?));
                    continue;
                }
                _ => return Err(words.unexpected(&word)),
            };
            let (mark_error, server_error);
            let why: &dyn Display = match words.option() {
                "--mark" => match text.parse::<Mark>() {
                    Ok(given) => {
                        mark = Some(given);
                        continue;
                    }
                    Err(error) => {
                        mark_error = error;
                        &mark_error
                    }
                },
                "--server" => match text.parse::<Server>() {
                    Ok(server) => {
                        servers.push(server);
                        continue;
                    }
                    Err(error) => {
                        server_error = error;
                        &server_error
                    }
                },
                "--listen" => match socket_address(text) {
                    Some(addr) => {
                        listen.push(addr);
                        continue;
                    }
                    None => &"it takes ADDR:PORT or [ADDR]:PORT",
                },
                _ => match decimal(text) {
                    Some(bytes) => {
                        cache = bytes as usize;
                        continue;
                    }
                    None => &"it takes a number of bytes, 0 for no cache",
                },
            };
            return Err(said(&format_args!("{} {text}", words.option()), why));
        }
        let wrong = match (servers.is_empty(), file.is_some()) {
            (false, true) => "--server and --resolv-file exclude each other",
            (true, false) => "whom to ask? Give --server S, or --resolv-file F",
            _ if listen.is_empty() => "where to listen? Give --listen ADDR:PORT, e.g. --listen 127.0.0.1:54",
            _ if listen.len() > MAX_LISTENERS => {
                return Err(format!("--listen: {MAX_LISTENERS} addresses at most"));
            }
            _ => {
                return Ok(Arguments {
                    listen,
                    mark,
                    source: file.map_or(Source::Servers(servers), Source::File),
                    cache,
                });
            }
        };
        Err(wrong.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, String> {
        Arguments::parse(&line.split_whitespace().map(PathBuf::from).collect::<Vec<_>>())
    }

    #[test]
    fn a_line_as_it_replaces_the_second_dnsmasq() {
        let arguments =
            parse("--listen 127.0.0.1:54 --listen=[::1]:54 --mark 1 --resolv-file /var/run/resolv.conf --cache 65536")
                .unwrap();
        assert_eq!(arguments.listen.len(), 2);
        assert_eq!(arguments.mark, Some(Mark::DEFAULT));
        assert_eq!(arguments.cache, 65536);
        assert!(matches!(arguments.source, Source::File(_)));
    }

    #[test]
    fn every_mistake_is_named() {
        for (line, word) in [
            ("", "--server"),
            ("--server 192.0.2.1", "--listen"),
            ("--listen 127.0.0.1 --server 192.0.2.1", "--listen 127.0.0.1"),
            ("--listen 127.0.0.1:54 --server dns.example", "--server dns.example"),
            ("--listen 127.0.0.1:54 --server 192.0.2.1 --mark 0", "--mark 0"),
            ("--listen 127.0.0.1:54 --server 192.0.2.1 --resolv-file x", "exclude"),
            ("--listen 127.0.0.1:54 --server 192.0.2.1 --cache many", "--cache many"),
            ("--listen 127.0.0.1:54 --server 192.0.2.1 --color", "--color"),
            ("--listen 127.0.0.1:54 --server 192.0.2.1 word", "word"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(word), "{line}: {error}");
        }
    }
}
