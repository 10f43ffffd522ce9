//! The settings of this crate's sockets.

use tonic::transport::{Endpoint, Server};

use crate::limits::{
    CONNECT_LIMIT, HTTP2_FRAME_BYTES, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, WINDOW_BYTES,
};

/// Returns a server that is set up for the exchange: low latency, and silent peers noticed.
///
/// The worker mounts [`crate::Hub::service`] into it, beside its other services. Push streams last
/// as long as an epoch, so a graceful shutdown ends only after [`crate::Hub::leave`].
#[must_use]
pub fn server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(2 * WINDOW_BYTES)
        .max_frame_size(HTTP2_FRAME_BYTES)
}

/// Returns where a peer is reached; `address` is `host:port`, or a URI.
pub(crate) fn endpoint(address: &str) -> Result<Endpoint, tonic::transport::Error> {
    let uri = if address.contains("://") {
        address.to_owned()
    } else {
        format!("http://{address}")
    };
    let endpoint = Endpoint::from_shared(uri)?
        .connect_timeout(CONNECT_LIMIT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(2 * WINDOW_BYTES)
        .max_frame_size(HTTP2_FRAME_BYTES);
    Ok(endpoint)
}
