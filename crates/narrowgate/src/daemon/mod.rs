//! The daemon: one thread, one `poll(2)`, level-triggered. Every event leads to the same thing: learn, reconcile, tell the resolvers.
//!
//! Rooms: [`reconcile`] makes the kernel look as policy wants. [`uplinks`] holds the providers. [`resolvers`] holds the
//! resolver processes; [`upstreams`] says whom they ask, [`left`] finds those that a daemon before us has left running.
//! [`services`] marks the tunnels' cgroups. [`gluon`] shares files with a Gluon node. [`hooks`] tells programs of the administrator's.
//! [`kept`] remembers where the peers are, [`strict`] tells the guard. [`control`] answers `status`, [`manager`] tells systemd.
//! [`pace`] keeps floods from costing a processor.

mod control;
mod gluon;
mod groups;
mod hooks;
mod kept;
mod left;
mod manager;
mod pace;
mod reconcile;
mod resolvers;
mod services;
mod strict;
mod uplinks;
mod upstreams;

use crate::cli::Globals;
use crate::config_file;
use crate::runtime::{Lock, RuntimeDir};
use alloc::string::String;
use alloc::string::ToString;
use alloc::vec::Vec;
use control::Control;
use core::fmt::Arguments;
use core::mem::ManuallyDrop;
use core::time::Duration;
use narrowgate_kernel::Real;
use narrowgate_model::{Config, Gather, Time};
use narrowgate_sys::eprintln;
use narrowgate_sys::process::ExitCode;
use narrowgate_sys::signal::{Signal, Signals};
use reconcile::Reconciler;
use resolvers::Resolvers;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::AsFd;
use services::Services;
use uplinks::Uplinks;

/// What the daemon listens to.
const SIGNALS: [Signal; 6] =
    [Signal::Term, Signal::Int, Signal::Quit, Signal::Hup, Signal::Usr2, Signal::Chld];

/// Why the daemon ends.
enum End {
    /// SIGTERM, SIGINT: take everything down.
    Stop,
    /// SIGQUIT: leave everything standing for the next one.
    Leave,
    /// SIGUSR2: the same, and the next one is the program now on disk, in this very process.
    Replace,
}

struct Daemon<'a> {
    globals: &'a Globals,
    config: Config,
    groups: groups::Groups,
    runtime: RuntimeDir,
    signals: Signals,
    kernel: Real,
    reconciler: Reconciler,
    uplinks: Uplinks,
    resolvers: Resolvers,
    services: Services,
    gluon: gluon::Gluon,
    hooks: hooks::Hooks,
    kept: kept::Kept,
    admission: strict::Admission,
    control: Control,
    started: Time,
    ready_ms: u64,
    /// When the code that only changes need is given back.
    forget_at: Option<Time>,
    /// Something has changed that the kernel does not know of yet.
    unsettled: bool,
    pace: pace::Pace,
    _lock: Lock,
}

/// After so long without a change the daemon is at rest.
const AT_REST: Duration = Duration::from_secs(2);

/// The moment, by the kernel's clock.
fn now() -> Time {
    Time(narrowgate_sys::link::now_ms())
}

/// The sooner of two moments, or the only one.
#[inline(never)]
fn sooner(one: Option<Time>, other: Option<Time>) -> Option<Time> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Runs until a signal ends it.
pub fn run(globals: &Globals) -> ExitCode {
    // Before anything else: a signal that comes now is answered when all stands, by taking it down again.
    let signals = match Signals::new(&SIGNALS) {
        Ok(signals) => signals,
        Err(error) => return failed(format_args!("signals: {error}")),
    };
    let config = match config_file::load_to_start(&globals.config) {
        Ok(config) => config,
        Err(problems) => {
            problems.iter().for_each(|p| eprintln!("narrowgate: {p}"));
            return ExitCode::from(crate::cli::USAGE);
        }
    };
    let started = now();
    let runtime = RuntimeDir::new(&globals.runtime_dir);
    let (lock, kernel) = match open(&runtime) {
        Ok(both) => both,
        Err(message) => return failed(format_args!("{message}")),
    };
    // It is never dropped: the process ends, and what shall outlive it does.
    let mut daemon = ManuallyDrop::new(Daemon {
        groups: groups::Groups::look_up(&config),
        reconciler: Reconciler::new(runtime.clone()),
        uplinks: Uplinks::default(),
        resolvers: Resolvers::new(runtime.clone()),
        services: Services::new(runtime.clone()),
        gluon: gluon::Gluon::new(&globals.config),
        hooks: hooks::Hooks::new(runtime.clone()),
        kept: kept::Kept::load(&globals.state_dir),
        admission: strict::Admission::new(),
        control: Control::new(),
        globals,
        config,
        runtime,
        signals,
        kernel,
        started,
        ready_ms: 0,
        forget_at: None,
        unsettled: false,
        pace: pace::Pace::default(),
        _lock: lock,
    });
    let daemon = &mut *daemon;
    if let Err(message) = daemon.start() {
        return failed(format_args!("{message}"));
    }
    let end = daemon.serve();
    daemon.kept.flush(&daemon.config);
    match end {
        End::Stop => {
            if daemon.stop() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        End::Leave => {
            daemon.hooks.stop(false);
            log::info!("leaving guard, routes and resolvers standing for the next run");
            ExitCode::SUCCESS
        }
        End::Replace => daemon.replace(),
    }
}

fn failed(why: Arguments<'_>) -> ExitCode {
    eprintln!("narrowgate: run: {why}");
    ExitCode::FAILURE
}

#[inline(never)]
fn open(runtime: &RuntimeDir) -> Result<(Lock, Real), String> {
    let lock = runtime.lock()?;
    let kernel = Real::open().map_err(|e| match e.errno() {
        Some(1) => format!("{e}; narrowgate run needs root (CAP_NET_ADMIN)"),
        _ => e.to_string(),
    })?;
    Ok((lock, kernel))
}

impl Daemon<'_> {
    /// Guard first, then the rest of the policy, then the listening sockets; then READY, whatever the uplinks do.
    #[inline(never)]
    fn start(&mut self) -> Result<(), String> {
        // What cannot be had is found out before anything is changed.
        let acquired = self.resolvers.acquire(&self.config)?;
        let in_force = self.uplinks.in_force(&self.config);
        self.reconciler.guard_first(&mut self.kernel, &in_force, &self.groups)?;
        self.resolvers.keep(self.kept.peers(&self.config));
        self.resolvers.launch(&self.config, acquired)?;
        self.services.configure(&self.config);
        self.control.listen(&self.runtime)?;
        self.ready_ms = now().0 - self.started.0;
        log::info!("ready after {} ms: the guard stands, {}", self.ready_ms, self.resolvers.describe());
        if let Err(error) = manager::notify(manager::READY) {
            log::warn!("cannot tell the service manager that we are ready: {error}");
        }
        self.uplinks.configure(&self.config, self.globals, now());
        self.settle();
        self.let_kept_in();
        Ok(())
    }

    /// Makes the kernel and the resolvers agree with what is known now.
    fn settle(&mut self) {
        self.unsettled = false;
        self.groups.refresh(&self.config);
        self.reconciler.settle(&mut self.kernel, &self.config, &self.groups, &mut self.uplinks);
        self.tell_resolvers();
        self.forget_at = Some(now() + AT_REST);
    }

    /// Strict: where the peers were last is where a tunnel that is up may be, and no DNS server need answer for it to go on.
    fn let_kept_in(&mut self) {
        if self.config.strict {
            self.admission.let_in(&mut self.kernel, &self.kept.addresses(&self.config));
        }
    }

    fn tell_resolvers(&mut self) {
        let config = self.uplinks.in_force(&self.config);
        self.resolvers.tell(&config, self.uplinks.facts());
        let Some(resolver) = config.uplink_resolvers().next() else { return };
        // Those that are written hold with and without a cable.
        if resolver.servers.is_empty() {
            let learnt = narrowgate_policy::upstreams(&config, resolver, self.uplinks.facts());
            self.gluon.tell(&learnt, self.uplinks.are_settled(now()));
        } else {
            self.gluon.tell(&resolver.servers, true);
        }
    }

    fn serve(&mut self) -> End {
        loop {
            self.services.tidy(now());
            let ready = self.wait();
            if ready.signal
                && let Some(end) = self.on_signals()
            {
                return end;
            }
            if ready.kernel {
                self.unsettled |= self.kernel.drain_events() != narrowgate_kernel::Events::default();
            }
            if ready.provider {
                self.unsettled |= self.uplinks.on_readable(now());
            }
            self.unsettled |= self.uplinks.on_timer(now());
            self.unsettled |= self.reconciler.retry_due(now());
            if ready.service {
                self.services.refresh();
            }
            if ready.gluon && self.gluon.changed() {
                self.reload();
            }
            self.resolvers.on_events();
            if self.unsettled && self.pace.allows(now()) {
                self.settle();
            } else if self.resolvers.next_timeout().is_some_and(|at| at <= now()) {
                self.tell_resolvers();
            }
            if ready.control {
                self.answer();
            }
            for (name, answered) in self.resolvers.take_news() {
                if self.hooks.hear(&self.config, &name, answered, now()) {
                    self.resolvers.watch();
                }
            }
            let in_order = self.reconciler.next_retry().is_none();
            self.hooks.step(&self.config, &self.uplinks, in_order, now());
            self.learn_peers();
            self.kept.on_timer(&self.config);
            self.resolvers.decide(&mut |addrs| self.admission.let_in(&mut self.kernel, addrs));
            if self.forget_at.take_if(|at| *at <= now()).is_some() {
                // Nothing depends on it.
                let _ = narrowgate_sys::memory::forget_start();
            }
        }
    }

    fn learn_peers(&mut self) {
        let mut changed = false;
        for found in self.resolvers.take_found() {
            changed |= self.kept.learn(&self.config, &found);
        }
        if changed {
            self.resolvers.keep(self.kept.peers(&self.config));
        }
    }

    /// Sleeps until something happens or is due.
    #[inline(never)]
    fn wait(&self) -> Ready {
        // Group by group, and where each begins.
        let mut fds = vec![self.signals.as_fd()];
        self.control.fd().into_iter().add_to(&mut fds);
        let kernel = fds.len();
        self.kernel.events_fd().add_to(&mut fds);
        let provider = fds.len();
        // What cannot be acted on yet waits in the sockets, and what is too much for them is dropped by the kernel.
        if !self.unsettled {
            self.uplinks.fds(&mut fds);
        }
        let gluon = fds.len();
        self.gluon.fd().into_iter().add_to(&mut fds);
        let service = fds.len();
        self.services.fds().add_to(&mut fds);
        let others = fds.len();
        self.hooks.fds().add_to(&mut fds);
        self.resolvers.fds().add_to(&mut fds);

        let settle = if self.unsettled { Some(self.pace.next()) } else { self.reconciler.next_retry() };
        let mut next = sooner(settle, self.forget_at);
        for timeout in [
            self.uplinks.next_timeout(),
            self.resolvers.next_timeout(),
            self.hooks.next_timeout(),
            self.kept.next_timeout(),
        ] {
            next = sooner(next, timeout);
        }
        let timeout = next.map(|at| {
            // One millisecond more, so that the moment has passed when we wake.
            let now = now();
            let ms = if at > now { at.0 - now.0 + 1 } else { 0 };
            Timespec { tv_sec: (ms / 1000) as i64, tv_nsec: (ms % 1000 * 1_000_000) as _ }
        });
        let mut fds: Vec<_> = fds.into_iter().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).gather();
        // An interrupted wait is an empty one.
        let _ = rustix::event::poll(&mut fds, timeout.as_ref());
        let any = |from: usize, to: usize| {
            fds.get(from..to).is_some_and(|fds| fds.iter().any(|fd| !fd.revents().is_empty()))
        };
        Ready {
            signal: any(0, 1),
            control: any(1, kernel),
            kernel: any(kernel, provider),
            provider: any(provider, gluon),
            gluon: any(gluon, service),
            service: any(service, others),
        }
    }

    fn on_signals(&mut self) -> Option<End> {
        while let Some(signal) = self.signals.read() {
            match signal {
                Signal::Term | Signal::Int => return Some(End::Stop),
                Signal::Quit => return Some(End::Leave),
                Signal::Usr2 => return Some(End::Replace),
                Signal::Hup => self.reload(),
                Signal::Chld => self.resolvers.reap(),
                Signal::Usr1 => {}
            }
        }
        None
    }

    /// Reads the config again. A wrong one changes nothing.
    fn reload(&mut self) {
        let _ = manager::notify(manager::RELOADING);
        self.read_again();
        let _ = manager::notify(manager::READY);
    }

    #[inline(never)]
    fn read_again(&mut self) {
        let config = match config_file::load(&self.globals.config) {
            Ok(config) => config,
            Err(problems) => {
                problems.iter().for_each(|p| log::error!("{p}"));
                return log::error!("the config is wrong: going on with the old one");
            }
        };
        let acquired = match self.resolvers.acquire(&config) {
            Ok(acquired) => acquired,
            Err(message) => {
                log::error!("{message}");
                return log::error!("going on with the old config");
            }
        };
        self.config = config;
        self.groups = groups::Groups::look_up(&self.config);
        self.uplinks.configure(&self.config, self.globals, now());
        self.settle();
        self.let_kept_in();
        self.resolvers.keep(self.kept.peers(&self.config));
        if let Err(message) = self.resolvers.launch(&self.config, acquired) {
            log::error!("{message}");
        }
        self.services.configure(&self.config);
        self.hooks.forget_complaints();
        self.tell_resolvers();
        log::info!("config {} read again", self.globals.config.display());
    }

    /// Takes down what was set up, the guard last. True if all of it is gone.
    fn stop(&mut self) -> bool {
        let _ = manager::notify(manager::STOPPING);
        self.hooks.stop(true);
        self.services.stop();
        self.resolvers.stop();
        self.uplinks.stop(now());
        let clean = self.reconciler.tear_down(&mut self.kernel, &self.config);
        if clean {
            self.runtime.clean();
            log::info!("stopped: the system is as it was before");
        }
        clean
    }

    /// Becomes the program that is now on disk. What stands is taken over by it, as after a crash.
    #[inline(never)]
    fn replace(&mut self) -> ExitCode {
        self.hooks.stop(false);
        let arguments = narrowgate_sys::env::args_os();
        let program = arguments.first().cloned().unwrap_or_default();
        log::info!("replacing this program by {}", program.display());
        let _ = narrowgate_sys::signal::unblock_all();
        let error = narrowgate_sys::process::exec(&arguments, &[]);
        log::error!("{}: {error}; leaving everything standing", program.display());
        ExitCode::FAILURE
    }
}

/// What the wait was ended by.
struct Ready {
    signal: bool,
    control: bool,
    kernel: bool,
    provider: bool,
    gluon: bool,
    service: bool,
}
