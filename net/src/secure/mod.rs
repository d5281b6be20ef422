//! Connections between nodes: TLS where the cluster has a secret, else plain.
//!
//! The listener for peers is theirs alone, so a secret makes all of it TLS, and nothing has to be told apart
//! on the listeners of clients, where the APIs of peers are refused as ever. Simulations have plain connections
//! only, under the same names.

#[cfg(not(madsim))]
mod authority;
#[cfg(not(madsim))]
mod complaints;
#[cfg(not(madsim))]
mod handshakes;
#[cfg(madsim)]
mod plain;
#[cfg(not(madsim))]
mod secret;
#[cfg(not(madsim))]
mod stream;

#[cfg(not(madsim))]
pub(crate) use handshakes::Security;
#[cfg(madsim)]
pub(crate) use plain::{Security, Stream};
#[cfg(not(madsim))]
pub use secret::{ClusterSecret, SecretError};
#[cfg(not(madsim))]
pub(crate) use stream::Stream;
