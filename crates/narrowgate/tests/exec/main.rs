//! `narrowgate exec`, as a person would use it, in network namespaces of its own. Needs root, iproute2, util-linux,
//! python3, cc and musl-gcc; what is missing makes a test fail and say so.

mod configured;
mod dns;
mod gluon;
mod passing;
mod preload;
mod reach;
mod room;
