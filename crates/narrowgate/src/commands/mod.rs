//! One file a command. [`TABLE`] is the list: a new command is a file and a row here.

pub mod check;
pub mod exec;
pub mod forward;
pub mod run;
pub mod sockets;
pub mod status;

use crate::cli::Globals;
use narrowgate_sys::path::PathBuf;
use narrowgate_sys::process::ExitCode;

/// A command word, how it is used, and what runs it.
pub struct Command {
    /// The word.
    pub name: &'static str,
    /// One line for the overview.
    pub summary: &'static str,
    /// What `narrowgate WORD --help` prints.
    pub help: &'static str,
    /// Its options that take a value: needed to tell where the options of `exec` end and its command begins.
    pub value_options: &'static [&'static str],
    /// The first word that is no option ends the options (`exec`).
    pub stops_at_word: bool,
    /// Runs it with the arguments behind the word, the global options taken out.
    pub run: fn(&Globals, &[PathBuf]) -> ExitCode,
}

/// All commands, in the order of the overview.
pub const TABLE: &[Command] = &[
    Command {
        name: "run",
        summary: "the daemon, in the foreground",
        help: "usage: narrowgate run [--config FILE] [--runtime-dir DIR] [--state-dir DIR]\n\n\
               Sets up the guard, the WAN table and the resolvers, brings up the uplinks and keeps it all so.\n\
               SIGHUP reads the config again. SIGTERM takes everything down, the guard last. SIGQUIT leaves\n\
               everything standing for the next run; SIGUSR2 replaces the program by the one now on disk.\n",
        value_options: &[],
        stops_at_word: false,
        run: run::main,
    },
    Command {
        name: "forward",
        summary: "the DNS forwarder alone",
        help: "usage: narrowgate forward --listen ADDR:PORT… [--mark M] (--server S… | --resolv-file F) [--cache BYTES]\n\n\
               Forwards DNS, UDP and TCP, from the loopback addresses to the servers, with sockets marked M.\n\
               The resolv-file is watched; it may come late and be replaced.\n",
        value_options: &["--listen", "--mark", "--server", "--resolv-file", "--cache"],
        stops_at_word: false,
        run: |_, args| {
            crate::logger::init();
            forward::main(args)
        },
    },
    Command {
        name: "exec",
        summary: "runs a command with marked sockets and the WAN's DNS",
        help: exec::HELP,
        value_options: exec::VALUE_OPTIONS,
        stops_at_word: true,
        run: exec::main,
    },
    Command {
        name: "status",
        summary: "facts, tunnels, resolvers, guard, counters",
        help: "usage: narrowgate status [--json | --prometheus] [--runtime-dir DIR]\n\
               \x20      narrowgate status --sockets [--json] [--config FILE] [--runtime-dir DIR]\n\n\
               What the running daemon knows and does. Exit 1 if no daemon runs.\n\
               With --sockets: the marks of all sockets of the tunnels' processes and of the resolvers, as the\n\
               kernel has them. Exit 1 if one sends to the uplink unmarked. Needs root, but no daemon.\n",
        value_options: &[],
        stops_at_word: false,
        run: status::main,
    },
    Command {
        name: "check",
        summary: "reads the config and says what is wrong with it",
        help: "usage: narrowgate check [--config FILE]\n\n\
               Each mistake is one line: file, line, column, what, why, what to do. Exit 2 if there is one.\n",
        value_options: &[],
        stops_at_word: false,
        run: |globals, args| check::main(&globals.config, args),
    },
];
