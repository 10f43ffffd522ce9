//! The one place where sockets are made.
//!
//! Whoever calls another process has a [`Dialer`], whoever is called a [`Listener`]; both are TCP unless
//! somebody says otherwise. Another way to connect (TLS, Unix sockets, the network of a simulation) is
//! another dialer and another listener, and changes nobody who uses them.
//!
//! Processes of one machine may meet at a [`Door`] besides.

mod connection;
mod dialer;
mod door;
mod limits;
mod listener;
mod tcp;

pub use connection::Connection;
pub use dialer::Dialer;
pub use door::{Door, Visitor, knock};
pub use listener::Listener;
pub use tcp::{most_files, public_connections, raise_files};
