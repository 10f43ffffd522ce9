//! What precedes a frame in a lane.

use exchange::{Moment, Phase};
use spec::{Fence, StepNumber};

/// What stands for a phase in the header that says that no frame follows any more: the sender has left the
/// epoch in order.
const GOODBYE: u32 = u32::MAX;

/// Which exchange a frame belongs to, and its length. Epoch, sender and receiver are the lane's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) step: u64,
    pub(crate) layer: u32,
    /// [`Phase`] as a number, or [`GOODBYE`].
    pub(crate) phase: u32,
    /// Of the frame that follows.
    pub(crate) bytes: u64,
}

impl Header {
    pub(crate) const BYTES: usize = 24;

    pub(crate) fn new((moment, phase): (Moment, Phase), bytes: usize) -> Self {
        Self {
            step: moment.step.0,
            layer: moment.layer,
            phase: phase as u32,
            bytes: bytes as u64,
        }
    }

    /// The last header of a lane.
    pub(crate) fn goodbye() -> Self {
        Self {
            step: 0,
            layer: 0,
            phase: GOODBYE,
            bytes: 0,
        }
    }

    pub(crate) fn is_goodbye(self) -> bool {
        self == Self::goodbye()
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.step.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.layer.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.phase.to_le_bytes());
        bytes[16..].copy_from_slice(&self.bytes.to_le_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let half = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let whole = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        Self {
            step: whole(0),
            layer: half(8),
            phase: half(12),
            bytes: whole(16),
        }
    }

    /// Returns the exchange it names, in the lane's epoch; `None` if there is no such phase.
    pub(crate) fn exchange(self, fence: Fence) -> Option<(Moment, Phase)> {
        let phases = [Phase::Dispatch, Phase::Combine];
        let phase = phases
            .into_iter()
            .find(|phase| *phase as u32 == self.phase)?;
        let moment = Moment {
            fence,
            step: StepNumber(self.step),
            layer: self.layer,
        };
        Some((moment, phase))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_from_its_bytes() {
        let moment = Moment {
            fence: Fence::default(),
            step: StepNumber(u64::MAX - 1),
            layer: 77,
        };
        for phase in [Phase::Dispatch, Phase::Combine] {
            let header = Header::new((moment, phase), 1 << 20);
            assert_eq!(Header::from_bytes(header.to_bytes()), header);
            assert_eq!(header.exchange(Fence::default()), Some((moment, phase)));
        }
    }

    #[test]
    fn knows_two_phases() {
        let header = Header {
            step: 1,
            layer: 0,
            phase: 2,
            bytes: 0,
        };
        assert_eq!(header.exchange(Fence::default()), None);
    }
}
