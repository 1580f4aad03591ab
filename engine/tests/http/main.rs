//! The HTTP side over real loopback sockets, with the real scheduler on the scripted backend: what clients get, and what each
//! request's journey says of it. Every journey that is looked at is also checked for legality.

mod client;
mod engine;

mod answers;
mod drain;
mod ends;
mod probes;
mod rejections;
mod traces;
