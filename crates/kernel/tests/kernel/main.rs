//! The real kernel, in network namespaces of our own: these tests need root.
//!
//! `links`, `addresses`, `routes`, `rules`: every step shows when observed, and doing it twice changes nothing. `guard`: what we
//! load is what `nft` shows for the same text. `owner`: who may touch our tables, and what outlives whom. `sets`: what is in
//! them and how long. `events`: what we are told.
//! `conntrack`: whose connections are forgotten.

mod addresses;
mod conntrack;
mod events;
mod guard;
mod links;
mod model;
mod namespace;
mod owner;
mod routes;
mod rules;
mod ruleset;
mod sets;
