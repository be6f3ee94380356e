//! The command line of `narrowgate forward`.

use crate::words::{Word, Words};
use narrowgate_model::{Mark, Server};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

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
    pub fn parse(args: &[OsString]) -> Result<Arguments, String> {
        let (mut listen, mut mark, mut servers, mut file, mut cache) =
            (Vec::new(), None, Vec::new(), None, 0);
        let mut words = Words::new(args);
        while let Some(word) = words.next()? {
            let Word::Option(name) = &word else {
                return Err(format!("{}; see --help", words.unexpected(&word)));
            };
            match name.as_str() {
                "--listen" => listen.push(words.text()?.parse_or("--listen", "ADDR:PORT or [ADDR]:PORT")?),
                "--mark" => {
                    let text = words.text()?;
                    mark = Some(text.parse::<Mark>().map_err(|e| format!("--mark {text}: {e}"))?);
                }
                "--server" => {
                    let text = words.text()?;
                    servers.push(text.parse::<Server>().map_err(|e| format!("--server {text}: {e}"))?);
                }
                "--resolv-file" => file = Some(PathBuf::from(words.value()?)),
                "--cache" => {
                    cache = words.text()?.parse_or("--cache", "a number of bytes, 0 for no cache")?
                }
                _ => return Err(format!("no option {name}; see --help")),
            }
        }
        let source = match (servers.is_empty(), file) {
            (false, None) => Source::Servers(servers),
            (true, Some(file)) => Source::File(file),
            (false, Some(_)) => return Err("--server and --resolv-file exclude each other".to_owned()),
            (true, None) => return Err("whom to ask? Give --server S, or --resolv-file F".to_owned()),
        };
        if listen.is_empty() {
            return Err("where to listen? Give --listen ADDR:PORT, e.g. --listen 127.0.0.1:54".to_owned());
        }
        if listen.len() > narrowgate_forwarder::child::MAX_LISTENERS {
            return Err(format!(
                "--listen: {} addresses at most",
                narrowgate_forwarder::child::MAX_LISTENERS
            ));
        }
        Ok(Arguments { listen, mark, source, cache })
    }
}

trait ParseOr {
    fn parse_or<T: std::str::FromStr>(&self, option: &str, form: &str) -> Result<T, String>;
}

impl ParseOr for str {
    fn parse_or<T: std::str::FromStr>(&self, option: &str, form: &str) -> Result<T, String> {
        self.parse().map_err(|_| format!("{option} {self}: it takes {form}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, String> {
        Arguments::parse(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
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
