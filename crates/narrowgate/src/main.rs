//! narrowgate keeps a foreign uplink for the tunnel alone. This is the program: the command line and what each command does.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), no_std, no_main)]

#[macro_use]
extern crate alloc;

mod cli;
mod commands;
mod config_file;
mod daemon;
mod logger;
mod report;
mod runtime;
mod watch;
mod words;

narrowgate_sys::program!(cli::main);
