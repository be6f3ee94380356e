//! What the engine promises, in a simulated network. `stories` are told one by one, `properties` hold for whatever happens.

mod cookies;
mod families;
mod properties;
mod stories;
mod world;
