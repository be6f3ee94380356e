//! What the engine promises, in a simulated network. `stories` are told one by one, `properties` hold for whatever happens,
//! `simulation` is everything at once, for long.

mod cookies;
mod families;
mod hosts;
mod properties;
mod simulation;
mod stale;
mod stories;
mod vigil;
mod world;
