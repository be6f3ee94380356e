//! The tunnels' services (`option cgroup`): each one's cgroup gets the programs that mark its sockets and send its DNS to
//! the WAN resolver, and the next one gets them when the service has restarted. And the cgroups that `exec` leaves behind.
//!
//! `cgroups` in the runtime directory says which cgroups have our programs, by number and path: they stay when we die, so
//! the next run knows what to take off, and which sockets were marked all along.

use crate::commands::exec::CGROUP_PREFIX;
use crate::runtime::{RuntimeDir, replace};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;
use narrowgate_kernel::cgroup::{self, Programs, Seen, Service};
use narrowgate_model::{Config, Time};
use narrowgate_sys::cgroup::Tree;
use narrowgate_sys::fs;
use narrowgate_sys::path::Path;
use rustix::fd::{AsFd, BorrowedFd};

/// All of them.
#[derive(Debug)]
pub struct Services {
    runtime: RuntimeDir,
    list: Vec<Followed>,
    attached: Attached,
    retry_at: Time,
    sweep_at: Time,
}

/// The cgroups that have programs of ours, as far as we know: numbers and paths.
#[derive(Debug, Default)]
struct Attached {
    list: Vec<(u64, String)>,
    /// The file does not have it.
    changed: bool,
}

/// A tunnel's cgroup.
#[derive(Debug)]
struct Followed {
    tunnel: String,
    path: String,
    programs: Programs,
    service: Option<Service>,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Not looked at yet.
    New,
    /// The service does not run.
    Absent,
    Attached,
    /// Why not.
    Failed(String),
}

impl Services {
    /// None yet, but what a run before this one left.
    #[inline(never)]
    pub fn new(runtime: RuntimeDir) -> Services {
        let mut attached = Attached::default();
        for line in narrowgate_sys::file::text(runtime.file(FILE)).lines() {
            if let Some((id, path)) = line.split_once(' ')
                && let Ok(id) = id.parse()
            {
                attached.list.push((id, path.to_owned()));
            }
        }
        Services { runtime, list: Vec::new(), attached, retry_at: Time(0), sweep_at: Time(0) }
    }

    /// Follows the cgroups of this config and no others.
    pub fn configure(&mut self, config: &Config) {
        self.keep(&|path| config.tunnels.iter().any(|t| t.cgroup.as_deref() == Some(path)));
        let programs = programs(config);
        for tunnel in &config.tunnels {
            let Some(path) = &tunnel.cgroup else { continue };
            match self.list.iter_mut().find(|followed| followed.path == *path) {
                Some(followed) => followed.programs = programs,
                None => self.list.push(Followed {
                    tunnel: tunnel.name.clone(),
                    path: path.clone(),
                    programs,
                    service: None,
                    state: State::New,
                }),
            }
        }
        self.refresh();
    }

    /// Looks at all of them. Call it when one of [`fds`](Self::fds) is readable.
    pub fn refresh(&mut self) {
        for followed in &mut self.list {
            followed.look(&mut self.attached);
        }
        if core::mem::take(&mut self.attached.changed) {
            self.write_down();
        }
    }

    /// Takes the programs off all cgroups but those that are `wanted`.
    #[inline(never)]
    fn keep(&mut self, wanted: &dyn Fn(&str) -> bool) {
        self.list.retain_mut(|followed| {
            let stays = wanted(&followed.path);
            if !stays && let Some(service) = followed.service.take() {
                service.detach();
            }
            stays
        });
        let Attached { list, changed } = &mut self.attached;
        list.retain(|(_, path)| {
            let stays = wanted(path) || !take_off(path);
            *changed |= !stays;
            stays
        });
    }

    /// What can wait until something else has woken us: tries again what failed, and removes empty cgroups of `exec`.
    pub fn tidy(&mut self, now: Time) {
        if self.retry_at <= now && self.problems().next().is_some() {
            self.retry_at = now + RETRY;
            self.refresh();
        }
        if self.sweep_at <= now {
            self.sweep_at = now + SWEEP;
            sweep();
        }
    }

    /// To be polled for reading.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.list.iter().filter_map(|followed| Some(followed.service.as_ref()?.as_fd()))
    }

    /// What is to be said of a tunnel's cgroup: `marked`, `not there`, `failed`.
    pub fn state(&self, path: &str) -> &'static str {
        match self.list.iter().find(|followed| followed.path == path).map(|followed| &followed.state) {
            Some(State::Attached) => "marked",
            Some(State::Failed(_)) => "failed",
            Some(State::Absent | State::New) | None => "not there",
        }
    }

    /// What is wrong, a sentence each.
    pub fn problems(&self) -> impl Iterator<Item = &str> {
        self.list.iter().filter_map(|followed| match &followed.state {
            State::Failed(why) => Some(why.as_str()),
            _ => None,
        })
    }

    /// Takes all programs off, and forgets it.
    pub fn stop(&mut self) {
        self.keep(&|_| false);
        let _ = fs::remove_file(self.runtime.file(FILE));
        sweep();
    }

    fn write_down(&self) {
        let mut lines = String::new();
        for (id, path) in &self.attached.list {
            lines.push_str(&format!("{id} {path}\n"));
        }
        let file = self.runtime.file(FILE);
        if let Err(error) = replace(&file, &lines) {
            log::warn!("{}: {error}: after a crash programs may stay on cgroups", file.display());
        }
    }
}

impl Attached {
    /// This is the cgroup at `path` that has our programs, or there is none. Whether that was known.
    fn set(&mut self, path: &str, id: Option<u64>) -> bool {
        let place = self.list.iter().position(|(_, known)| known == path);
        let known = place.and_then(|n| self.list.get(n)).map(|(id, _)| *id);
        if known == id {
            return true;
        }
        self.changed = true;
        if let Some(n) = place {
            self.list.remove(n);
        }
        if let Some(id) = id {
            self.list.push((id, path.to_owned()));
        }
        false
    }
}

impl Followed {
    #[inline(never)]
    fn look(&mut self, attached: &mut Attached) {
        let (tunnel, path) = (&self.tunnel, &self.path);
        let state = match attach(&mut self.service, path, self.programs) {
            Ok(Seen::Absent) => {
                attached.set(path, None);
                State::Absent
            }
            Ok(Seen::Known) => State::Attached,
            Ok(Seen::New { processes }) => {
                let all_along = attached.set(path, Some(number(path)));
                // The guard drops what they send, so this is no leak.
                if processes > 0 && !all_along {
                    log::warn!(
                        "tunnel {tunnel}: its cgroup {path} is marked from now on, but had {processes} processes already: \
                         sockets that they have bound or connected before are not; if `narrowgate status --sockets` \
                         shows one, restart the service"
                    );
                } else {
                    let what = if all_along { "taken over" } else { "marked" };
                    log::info!("tunnel {tunnel}: its cgroup {path} is {what}");
                }
                State::Attached
            }
            Err(why) => {
                State::Failed(format!("tunnel {tunnel}: the sockets of cgroup {path} are not marked: {why}"))
            }
        };
        if self.state == state {
            return;
        }
        match &state {
            State::Failed(why) => log::warn!("{why}"),
            State::Absent if self.state == State::Attached => {
                log::info!("tunnel {tunnel}: its cgroup {path} is gone: it has stopped");
            }
            State::Absent => log::info!("tunnel {tunnel}: waiting for its cgroup {path}"),
            State::New | State::Attached => {}
        }
        self.state = state;
    }
}

#[inline(never)]
fn attach(service: &mut Option<Service>, path: &str, programs: Programs) -> Result<Seen, String> {
    let service = match service {
        Some(service) => service,
        none => {
            let new = Service::new(Path::new(path), programs);
            none.insert(new.map_err(|e| format!("cannot follow it: {e}"))?)
        }
    };
    service.set_programs(programs).and_then(|()| service.refresh()).map_err(|e| e.to_string())
}

/// A cgroup's number; 0 if it is not there any more.
fn number(path: &str) -> u64 {
    let group = Tree::find().and_then(|tree| tree.open(Path::new(path)));
    group.and_then(|group| narrowgate_sys::cgroup::id(group.as_fd())).unwrap_or(0)
}

/// Marks, and sends DNS to where the WAN resolver listens first, of each family.
fn programs(config: &Config) -> Programs {
    let mut programs = Programs { mark: Some(config.mark), resolver4: None, resolver6: None };
    for resolver in config.uplink_resolvers() {
        for addr in &resolver.listen {
            match addr {
                SocketAddr::V4(addr) => programs.resolver4 = programs.resolver4.or(Some(*addr)),
                SocketAddr::V6(addr) => programs.resolver6 = programs.resolver6.or(Some(*addr)),
            }
        }
    }
    programs
}

/// Takes our programs off a cgroup that the config does not name any more. True if nothing is left to do.
fn take_off(path: &str) -> bool {
    // Without a tree, or the cgroup in it, there are no programs.
    let Ok(directory) = Tree::find().and_then(|tree| tree.open(Path::new(path))) else { return true };
    let done = cgroup::detach(directory.as_fd());
    if let Err(error) = &done {
        log::warn!("cgroup {path}: our programs stay on it: {error}");
    }
    done.is_ok()
}

fn sweep() {
    let removed = Tree::find().map_or(0, |tree| tree.sweep(CGROUP_PREFIX));
    if removed > 0 {
        log::debug!("removed {removed} empty cgroups of `narrowgate exec`");
    }
}

/// In the runtime directory.
const FILE: &str = "cgroups";
/// The shortest time between two tries of what failed.
const RETRY: Duration = Duration::from_secs(1);
/// The shortest time between two walks through the tree of cgroups.
const SWEEP: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_goes_to_the_first_address_of_each_family_of_the_wan_resolver() {
        let mut config = Config::default();
        let both = programs(&config);
        assert_eq!(both.resolver4, "127.0.0.1:54".parse().ok());
        assert_eq!(both.resolver6, "[::1]:54".parse().ok());
        assert_eq!(both.mark, Some(config.mark));
        config.resolvers[0].listen = vec!["[::1]:5300".parse().unwrap(), "[::1]:54".parse().unwrap()];
        let one = programs(&config);
        assert_eq!((one.resolver4, one.resolver6), (None, "[::1]:5300".parse().ok()));
    }

    #[test]
    fn what_the_run_before_has_left_is_read() {
        let dir = std::env::temp_dir().join(format!("narrowgate-services-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let runtime = RuntimeDir::new(&dir);
        assert_eq!(Services::new(runtime.clone()).attached.list, []);
        std::fs::write(runtime.file(FILE), "7 /a b/c\nnonsense\n8 /d\n").unwrap();
        let mut services = Services::new(runtime.clone());
        assert_eq!(services.attached.list, [(7, "/a b/c".to_owned()), (8, "/d".to_owned())]);
        services.write_down();
        assert_eq!(std::fs::read_to_string(runtime.file(FILE)).unwrap(), "7 /a b/c\n8 /d\n");
        services.stop();
        assert!(!runtime.file(FILE).exists());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
