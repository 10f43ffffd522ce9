//! What a client asks for.

use std::time::Duration;

use proto::internal as wire;
use spec::TokenId;

use super::Client;
use crate::wire::sampling_to_wire;

impl Client {
    pub(super) fn id(&self) -> String {
        format!("r{}", self.index)
    }

    pub(super) fn request(&self, now: Duration) -> wire::FollowRequest {
        let ids = |tokens: &[TokenId]| tokens.iter().map(|token| token.0).collect();
        let name = wire::SequenceRecord {
            request_id: self.id(),
            principal: "p".into(),
            ..Default::default()
        };
        let record = match self.submits {
            false => name,
            true => wire::SequenceRecord {
                tokens: ids(&self.prompt),
                sampling: Some(sampling_to_wire(&self.sampling)),
                stop: Some(self.stop.clone()),
                fingerprint: vec![self.index as u8; 32],
                ..name
            },
        };
        wire::FollowRequest {
            record: Some(record),
            attach_only: !self.submits,
            generated: ids(&self.front),
            tokens_seen: self.front.len() as u32,
            keep_us: self.keep.map(|keep| keep.as_micros() as u64),
            age_us: (now - self.begins).as_micros() as u64,
            ..Default::default()
        }
    }
}
