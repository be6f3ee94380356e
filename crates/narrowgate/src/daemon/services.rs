//! The tunnels' services (`option cgroup`): each one's cgroup gets the programs that mark its sockets and send its DNS to
//! the WAN resolver, and the next one gets them when the service has restarted. And the cgroups that `exec` leaves behind.
//!
//! `cgroups` in the runtime directory says which cgroups have our programs, by number and path: they stay when we die, so
//! the next run knows what to take off, and which sockets were marked all along.

use crate::commands::exec::CGROUP_PREFIX;
use crate::runtime::{RuntimeDir, replace};
use narrowgate_kernel::cgroup::{self, Programs, Seen, Service};
use narrowgate_model::Gather;
use narrowgate_model::{Config, Time};
use narrowgate_sys::cgroup::Tree;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

/// All of them.
#[derive(Debug)]
pub struct Services {
    runtime: RuntimeDir,
    list: Vec<Followed>,
    /// Number and path of the cgroups that have programs of ours, as far as we know.
    attached: Vec<(u64, String)>,
    retry_at: Time,
    sweep_at: Time,
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
    pub fn new(runtime: RuntimeDir) -> Services {
        let attached = narrowgate_sys::file::text(runtime.file(FILE));
        let attached = attached.lines().filter_map(|line| {
            let (id, path) = line.split_once(' ')?;
            Some((id.parse().ok()?, path.to_owned()))
        });
        let attached = attached.gather();
        Services { runtime, list: Vec::new(), attached, retry_at: Time(0), sweep_at: Time(0) }
    }

    /// Follows the cgroups of this config and no others.
    pub fn configure(&mut self, config: &Config) {
        let before = self.attached.clone();
        let programs = programs(config);
        let wanted = |path: &str| config.tunnels.iter().any(|t| t.cgroup.as_deref() == Some(path));
        let (kept, given_up): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.list).into_iter().partition(|followed| wanted(&followed.path));
        self.list = kept;
        given_up.into_iter().filter_map(|followed| followed.service).for_each(Service::detach);
        self.attached.retain(|(_, path)| wanted(path) || !take_off(path));
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
        self.look(&before);
    }

    /// Looks at all of them. Call it when one of [`fds`](Self::fds) is readable.
    pub fn refresh(&mut self) {
        self.look(&self.attached.clone());
    }

    fn look(&mut self, before: &[(u64, String)]) {
        for followed in &mut self.list {
            followed.look(&mut self.attached);
        }
        if self.attached != before {
            self.write_down();
        }
    }

    /// What can wait until something else has woken us: tries again what failed, and removes empty cgroups of `exec`.
    pub fn tidy(&mut self, now: Time) {
        if self.retry_at <= now && self.list.iter().any(|f| matches!(f.state, State::Failed(_))) {
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
        let services = std::mem::take(&mut self.list).into_iter().filter_map(|followed| followed.service);
        services.for_each(Service::detach);
        self.attached.retain(|(_, path)| !take_off(path));
        let _ = std::fs::remove_file(self.runtime.file(FILE));
        sweep();
    }

    fn write_down(&self) {
        let lines: Vec<_> = self.attached.iter().map(|(id, path)| format!("{id} {path}\n")).gather();
        let file = self.runtime.file(FILE);
        if let Err(error) = replace(&file, &lines.concat()) {
            log::warn!("{}: {error}: after a crash programs may stay on cgroups", file.display());
        }
    }
}

impl Followed {
    fn look(&mut self, attached: &mut Vec<(u64, String)>) {
        let state = match self.attach() {
            Ok(Seen::Absent) => {
                attached.retain(|(_, path)| *path != self.path);
                State::Absent
            }
            Ok(Seen::Known) => State::Attached,
            Ok(Seen::New { processes }) => {
                let id = Tree::find()
                    .and_then(|tree| narrowgate_sys::cgroup::id(tree.open(Path::new(&self.path))?.as_fd()));
                let id = id.unwrap_or(0);
                let all_along = attached.contains(&(id, self.path.clone()));
                attached.retain(|(_, path)| *path != self.path);
                attached.push((id, self.path.clone()));
                match processes {
                    _ if all_along => {
                        log::info!("tunnel {}: its cgroup {} is taken over", self.tunnel, self.path)
                    }
                    0 => log::info!("tunnel {}: its cgroup {} is marked", self.tunnel, self.path),
                    // The guard drops what they send, so this is no leak.
                    _ => log::warn!(
                        "tunnel {}: its cgroup {} is marked from now on, but had {processes} processes already: \
                         sockets that they have bound or connected before are not; if `narrowgate status --sockets` \
                         shows one, restart the service",
                        self.tunnel,
                        self.path
                    ),
                }
                State::Attached
            }
            Err(why) => State::Failed(format!(
                "tunnel {}: the sockets of cgroup {} are not marked: {why}",
                self.tunnel, self.path
            )),
        };
        if self.state == state {
            return;
        }
        match &state {
            State::Failed(why) => log::warn!("{why}"),
            State::Absent if self.state == State::Attached => {
                log::info!("tunnel {}: its cgroup {} is gone: it has stopped", self.tunnel, self.path);
            }
            State::Absent => log::info!("tunnel {}: waiting for its cgroup {}", self.tunnel, self.path),
            State::New | State::Attached => {}
        }
        self.state = state;
    }

    fn attach(&mut self) -> Result<Seen, String> {
        let service = match &mut self.service {
            Some(service) => service,
            none => {
                let service = Service::new(narrowgate_sys::path::Path::new(&self.path), self.programs);
                none.insert(service.map_err(|e| format!("cannot follow it: {e}"))?)
            }
        };
        service.set_programs(self.programs).map_err(|e| e.to_string())?;
        service.refresh().map_err(|e| e.to_string())
    }
}

/// Marks, and sends DNS to where the WAN resolver listens first, of each family.
fn programs(config: &Config) -> Programs {
    let listen = || config.uplink_resolvers().flat_map(|resolver| &resolver.listen);
    Programs {
        mark: Some(config.mark),
        resolver4: listen().find_map(|addr| match addr {
            SocketAddr::V4(addr) => Some(*addr),
            SocketAddr::V6(_) => None,
        }),
        resolver6: listen().find_map(|addr| match addr {
            SocketAddr::V6(addr) => Some(*addr),
            SocketAddr::V4(_) => None,
        }),
    }
}

/// Takes our programs off a cgroup that the config does not name any more. True if nothing is left to do.
fn take_off(path: &str) -> bool {
    let tree = match Tree::find() {
        Ok(tree) => tree,
        Err(_) => return true, // without a tree there are no programs
    };
    let Ok(directory) = tree.open(Path::new(path)) else { return true };
    match cgroup::detach(directory.as_fd()) {
        Ok(_) => true,
        Err(error) => {
            log::warn!("cgroup {path}: our programs stay on it: {error}");
            false
        }
    }
}

fn sweep() {
    if let Ok(tree) = Tree::find() {
        let removed = tree.sweep(CGROUP_PREFIX);
        if removed > 0 {
            log::debug!("removed {removed} empty cgroups of `narrowgate exec`");
        }
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
        assert_eq!(Services::new(runtime.clone()).attached, []);
        std::fs::write(runtime.file(FILE), "7 /a b/c\nnonsense\n8 /d\n").unwrap();
        let mut services = Services::new(runtime.clone());
        assert_eq!(services.attached, [(7, "/a b/c".to_owned()), (8, "/d".to_owned())]);
        services.write_down();
        assert_eq!(std::fs::read_to_string(runtime.file(FILE)).unwrap(), "7 /a b/c\n8 /d\n");
        services.stop();
        assert!(!runtime.file(FILE).exists());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
