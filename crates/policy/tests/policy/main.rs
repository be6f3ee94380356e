//! What policy promises. `world` is a kernel in memory that is strict about everything a real one is strict about, `make` has
//! the generators and short hands; each other file holds the promises of one part.
mod guard;
mod make;
mod plan;
mod routing;
mod strict;
mod table;
mod upstreams;
mod world;
