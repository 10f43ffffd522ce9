//! Lists of a gRPC message counted in its bytes: two bytes on the wire may be a hundred decoded, so
//! that a list is held against its limit before it exists.
//!
//! Source of the format: Protocol Buffers, "Encoding". What is malformed is left to the decoder: it
//! gives up at the same byte.

use super::error::Error;
use super::limits;

/// The most elements of a list.
#[derive(Debug)]
struct Limit {
    /// The numbers of the fields that lead to it.
    path: &'static [u64],
    name: &'static str,
    most: usize,
}

const fn limit(path: &'static [u64], name: &'static str, most: usize) -> Limit {
    Limit { path, name, most }
}

/// The lists of a ChatRequest.
const CHAT: &[Limit] = &[
    limit(&[3], "messages", limits::MAX_MESSAGES),
    limit(&[5], "tools", limits::MAX_TOOLS),
    limit(&[8, 9], "sampling.logit_bias", limits::MAX_LOGIT_BIAS),
    limit(&[9, 3], "stop.stop_sequences", limits::MAX_STOP_SEQUENCES),
    limit(&[15], "labels", limits::MAX_LABELS),
];

/// The lists of a GenerateRequest.
const GENERATE: &[Limit] = &[
    limit(&[5, 9], "sampling.logit_bias", limits::MAX_LOGIT_BIAS),
    limit(&[6, 3], "stop.stop_sequences", limits::MAX_STOP_SEQUENCES),
    limit(&[11], "labels", limits::MAX_LABELS),
];

/// Counts the lists of a call's message.
///
/// # Errors
///
/// [`Error::Field`] for a list that is too long, or a message of far too many fields.
pub(super) fn check(path: &str, message: &[u8]) -> Result<(), Error> {
    match path {
        "/conclave.v1.GenerationService/Chat" => Count::new(CHAT).walk(message, &mut Vec::new()),
        "/conclave.v1.GenerationService/Generate" => {
            Count::new(GENERATE).walk(message, &mut Vec::new())
        }
        "/conclave.v1.TokenizerService/RenderChat" => {
            let mut count = Count::new(CHAT);
            let mut rest = message;
            while let Some((number, content)) = next_field(&mut rest) {
                count.one_more()?;
                if number == 1 {
                    // Several of them are merged, and so they count together.
                    let walked = count.walk(content, &mut Vec::new());
                    walked.map_err(|error| error.rename(|name| format!("request.{name}")))?;
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Elements so far.
struct Count {
    limits: &'static [Limit],
    elements: Vec<usize>,
    /// All fields that were looked at.
    fields: usize,
}

impl Count {
    fn new(limits: &'static [Limit]) -> Self {
        Self {
            limits,
            elements: vec![0; limits.len()],
            fields: 0,
        }
    }

    fn one_more(&mut self) -> Result<(), Error> {
        self.fields += 1;
        if self.fields <= limits::MAX_FIELDS {
            return Ok(());
        }
        let why = format!("has more than {} fields", limits::MAX_FIELDS);
        Err(Error::field("request", why))
    }

    /// Counts the fields of a message to which this path leads.
    fn walk(&mut self, mut message: &[u8], path: &mut Vec<u64>) -> Result<(), Error> {
        while let Some((number, content)) = next_field(&mut message) {
            self.one_more()?;
            path.push(number);
            let mut leads_on = false;
            for (limit, elements) in self.limits.iter().zip(&mut self.elements) {
                let is_inside = limit.path.starts_with(path);
                leads_on |= is_inside && limit.path.len() > path.len();
                if is_inside && limit.path.len() == path.len() {
                    *elements += 1;
                    if *elements > limit.most {
                        let why = format!("at most {} are taken", limit.most);
                        return Err(Error::field(limit.name, why));
                    }
                }
            }
            if leads_on {
                self.walk(content, path)?;
            }
            path.pop();
        }
        Ok(())
    }
}

/// Takes the next field off a message: its number, and its content if it has a length. Groups are
/// not skipped: what is in one is looked at as if it were outside, so that nothing hides there.
fn next_field<'a>(message: &mut &'a [u8]) -> Option<(u64, &'a [u8])> {
    if message.is_empty() {
        return None;
    }
    let key = varint(message)?;
    let content = match key & 7 {
        0 => {
            varint(message)?;
            0
        }
        1 => 8,
        2 => usize::try_from(varint(message)?).ok()?,
        3 | 4 => 0,
        5 => 4,
        _ => return None,
    };
    let (content, rest) = message.split_at_checked(content)?;
    *message = rest;
    Some((key >> 3, content))
}

/// Takes a number of at most ten bytes, seven bits each, off a message.
fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..70).step_by(7) {
        let (&byte, rest) = message.split_first()?;
        *message = rest;
        number |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use prost::Message as _;
    use proto::v1;

    use super::{check, limits};

    const CHAT: &str = "/conclave.v1.GenerationService/Chat";
    const GENERATE: &str = "/conclave.v1.GenerationService/Generate";
    const RENDER: &str = "/conclave.v1.TokenizerService/RenderChat";

    fn refused(path: &str, message: &[u8]) -> Option<String> {
        let error = check(path, message).err()?;
        Some(error.at_field().unwrap().to_owned())
    }

    fn chat(surplus: usize) -> [(v1::ChatRequest, &'static str); 5] {
        let none = v1::ChatRequest::default;
        let messages = vec![v1::Message::default(); limits::MAX_MESSAGES + surplus];
        let tools = vec![v1::FunctionTool::default(); limits::MAX_TOOLS + surplus];
        let (sampling, stop, labels) = parameters(surplus);
        [
            (v1::ChatRequest { messages, ..none() }, "messages"),
            (v1::ChatRequest { tools, ..none() }, "tools"),
            (
                v1::ChatRequest { sampling, ..none() },
                "sampling.logit_bias",
            ),
            (v1::ChatRequest { stop, ..none() }, "stop.stop_sequences"),
            (v1::ChatRequest { labels, ..none() }, "labels"),
        ]
    }

    fn generate(surplus: usize) -> [(v1::GenerateRequest, &'static str); 3] {
        let none = v1::GenerateRequest::default;
        let (sampling, stop, labels) = parameters(surplus);
        [
            (
                v1::GenerateRequest { sampling, ..none() },
                "sampling.logit_bias",
            ),
            (
                v1::GenerateRequest { stop, ..none() },
                "stop.stop_sequences",
            ),
            (v1::GenerateRequest { labels, ..none() }, "labels"),
        ]
    }

    type Parameters = (
        Option<v1::SamplingParams>,
        Option<v1::StopParams>,
        HashMap<String, String>,
    );

    fn parameters(surplus: usize) -> Parameters {
        let biases = 0..(limits::MAX_LOGIT_BIAS + surplus) as u32;
        let sampling = v1::SamplingParams {
            logit_bias: biases.map(|token| (token, 1.0)).collect(),
            ..Default::default()
        };
        let stop = v1::StopParams {
            stop_sequences: vec!["x".into(); limits::MAX_STOP_SEQUENCES + surplus],
            ..Default::default()
        };
        let labels = 0..limits::MAX_LABELS + surplus;
        let labels = labels.map(|label| (label.to_string(), String::new()));
        (Some(sampling), Some(stop), labels.collect())
    }

    #[test]
    fn counts_every_list_of_small_elements() {
        for (request, field) in chat(1) {
            let message = request.encode_to_vec();
            assert_eq!(refused(CHAT, &message).as_deref(), Some(field));
            let render = v1::RenderChatRequest {
                request: Some(request),
            };
            let inside = format!("request.{field}");
            assert_eq!(refused(RENDER, &render.encode_to_vec()), Some(inside));
        }
        for (request, field) in generate(1) {
            let message = request.encode_to_vec();
            assert_eq!(refused(GENERATE, &message).as_deref(), Some(field));
        }
    }

    #[test]
    fn takes_as_many_as_there_may_be() {
        for (request, field) in chat(0) {
            assert_eq!(refused(CHAT, &request.encode_to_vec()), None, "{field}");
        }
        for (request, field) in generate(0) {
            assert_eq!(refused(GENERATE, &request.encode_to_vec()), None, "{field}");
        }
        // All of them together.
        let all: Vec<u8> = chat(0)
            .iter()
            .flat_map(|(request, _)| request.encode_to_vec())
            .collect();
        assert_eq!(refused(CHAT, &all), None);
    }

    #[test]
    fn parts_that_are_merged_count_together() {
        let half = v1::ChatRequest {
            messages: vec![v1::Message::default(); limits::MAX_MESSAGES / 2 + 1],
            ..Default::default()
        };
        let render = v1::RenderChatRequest {
            request: Some(half),
        };
        let half = render.encode_to_vec();
        assert_eq!(refused(RENDER, &half), None);
        let twice = half.repeat(2);
        assert_eq!(refused(RENDER, &twice).as_deref(), Some("request.messages"));
    }

    #[test]
    fn nothing_hides_in_a_group_or_behind_unknown_fields() {
        let many = chat(1)[0].0.encode_to_vec();
        // Field 99: a group, a number, eight bytes, four bytes, a text.
        for unknown in [
            &[0x9b, 0x06, 0x9c, 0x06][..],
            &[0x9b, 0x06],
            &[0x98, 0x06, 0xff, 0x01],
            &[0x99, 0x06, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0x9d, 0x06, 0, 0, 0, 0],
            &[0x9a, 0x06, 1, 0],
        ] {
            let message = [unknown, &many].concat();
            assert_eq!(refused(CHAT, &message).as_deref(), Some("messages"));
        }
        let unknown = [0x98, 0x06, 0].repeat(limits::MAX_FIELDS + 1);
        assert_eq!(refused(CHAT, &unknown).as_deref(), Some("request"));
    }

    #[test]
    fn what_is_malformed_is_left_to_the_decoder() {
        for message in [&[0xff][..], &[0xff; 20], &[0x1a, 0x05, 0], &[0x1f]] {
            assert_eq!(refused(CHAT, message), None);
            assert!(v1::ChatRequest::decode(message).is_err());
        }
    }
}
