//! The all-to-all between attention and experts: host plan and in-process transport.
//!
//! [`HostExchange`] implements the contract [`kernels::Exchange`] over host memory. Each piece can
//! be read alone:
//!
//! - `plan`: which rows go to which rank (pure);
//! - `frame`: how they are laid out in bytes (pure);
//! - [`Parts`] and [`Payload`]: those bytes on their way out and in;
//! - [`Inbox`]: where the frames of one rank arrive and are waited for;
//! - [`Transport`]: how they get there; [`Local`] is the one within a process;
//! - [`HostExchange`]: the two exchanges of a layer, made of the above.
//!
//! There is no async here: a rank is a thread that may wait, and whoever brings its frames calls
//! [`Inbox::deliver`], from any thread.

mod frame;
mod host;
mod inbox;
mod pause;
mod payload;
mod plan;
mod transport;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

pub use frame::{MAX_FRAME_BYTES, max_rows};
pub use host::{HostExchange, local_group, local_group_at};
pub use inbox::{Alarm, Inbox, PATIENCE, Refusal, Waiting};
pub use kernels::{Exchange, ExchangeError, Moment, Phase};
pub use pause::Pause;
pub use payload::{Parts, Payload, Whole};
pub use transport::{Delivered, Frame, Local, Outgoing, Round, SendError, Transport, Unsent};
