//! Every limit of the front, with its unit and the reason for the number.

use std::time::Duration;

/// Largest request, in bytes, by gRPC and by HTTP. A prompt of 131,072 tokens is at most 0.9 MB of
/// JSON; text of that many tokens is about as large and may be sixteen times as large at worst.
pub(crate) const MAX_REQUEST: usize = 16 << 20;

/// A request of more bytes is long: there are few at a time, and their text does not keep others'
/// waiting. Ordinary prompts are far shorter.
pub(crate) const LONG_REQUEST: usize = 1 << 20;

/// Long requests that are read and checked at the same time, each of at most [`MAX_REQUEST`] bytes.
pub(crate) const MAX_LONG_REQUESTS: usize = 8;

/// How long a client may take to send a request: the longest comes in time over 5 Mbit/s.
pub(crate) const BODY_TIME: Duration = Duration::from_secs(30);

/// Bytes of all other requests that are read and checked at the same time. A request takes a few
/// times its own bytes until it is tokens.
pub(crate) const MAX_SHORT_REQUESTS: usize = 128 << 20;

/// What a request counts in [`MAX_SHORT_REQUESTS`] at least, and in steps of which.
pub(crate) const REQUEST_UNIT: usize = 4096;

/// Fields of a gRPC message that are looked at before it is decoded: twice as many as all its lists
/// may hold together.
pub(crate) const MAX_FIELDS: usize = 2 * (MAX_MESSAGES + MAX_LOGIT_BIAS);

/// Largest message from the lead, in bytes: 64 rows of logprobs with 20 alternatives are 20 kB.
pub(crate) const MAX_LEAD_MESSAGE: usize = 16 << 20;

/// Tokens or prompt positions in one message to a client. With 20 alternatives each this is under
/// half a megabyte, far below the 4 MiB that gRPC clients accept by default.
pub(crate) const MAX_CHUNK: usize = 512;

/// Generations that may be live in one front at a time. Each holds a few kilobytes, a stream, and
/// its prompt at four bytes a token, which the choices of one request share.
pub(crate) const MAX_LIVE: usize = 4096;

/// Stop sequences of a request; the cost of matching grows with their number.
pub(crate) const MAX_STOP_SEQUENCES: usize = 16;

/// Length of a stop sequence in bytes; as much text may be held back.
pub(crate) const MAX_STOP_BYTES: usize = 1024;

/// Stop token ids of a request.
pub(crate) const MAX_STOP_TOKENS: usize = 128;

/// Entries of a logit bias; each costs every step of the sequence.
pub(crate) const MAX_LOGIT_BIAS: usize = 1024;

/// Length of a request id in bytes.
pub(crate) const MAX_ID_BYTES: usize = 128;

/// Length in bytes of names, recipients, salts and other short texts.
pub(crate) const MAX_NAME_BYTES: usize = 256;

/// Labels of a request.
pub(crate) const MAX_LABELS: usize = 16;

/// Length of a label's key in bytes.
pub(crate) const MAX_LABEL_KEY_BYTES: usize = 64;

/// Messages of a conversation.
pub(crate) const MAX_MESSAGES: usize = 4096;

/// Functions offered to the model.
pub(crate) const MAX_TOOLS: usize = 128;

/// JSON Schemas of all functions of a request together, in bytes. They become part of the prompt,
/// and 256 KiB are already half of the largest context.
pub(crate) const MAX_SCHEMA_BYTES: usize = 256 << 10;

/// Objects and lists of a function's JSON Schema inside each other. Each level is indented more than
/// the one around it, so that deep ones cost far more text than they are long.
pub(crate) const MAX_SCHEMA_DEPTH: usize = 32;

/// Sequences that one HTTP request may ask for: prompts times choices.
pub(crate) const MAX_CHOICES: usize = 128;

/// Logprobs in one HTTP answer, alternatives included: one whole context with 20 alternatives at each
/// position. They take some 50 bytes each, and as much again as JSON.
pub(crate) const MAX_ANSWER_LOGPROBS: usize = 3 << 20;

/// Text above this many bytes is read and encoded on a thread of its own: encoding runs at some
/// 10 MB/s and nothing may hold the runtime for longer than 500 us.
pub(crate) const INLINE_BYTES: usize = 4096;

/// Longer texts that are computed on at the same time. The worst text of [`MAX_REQUEST`] takes ten
/// seconds and a gigabyte; the others wait for their turn.
pub(crate) const MAX_LONG_TEXTS: usize = 2;

/// What a message or a function of a conversation counts in [`INLINE_BYTES`] besides its own bytes:
/// its header is encoded piece by piece.
pub(crate) const ITEM_BYTES: usize = 64;

/// Bytes that a token counts in [`INLINE_BYTES`] when it is decoded.
pub(crate) const TOKEN_BYTES: usize = 4;

/// Bytes of a client's own text that an error may repeat.
pub(crate) const MAX_ECHO_BYTES: usize = 256;

/// A gRPC stream on which nothing was sent for this long gets a heartbeat, so that no proxy closes it.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(10);

/// A client that reads nothing for this long, while something waits for it, is not coming back.
pub(crate) const CLIENT_STALL: Duration = Duration::from_secs(60);

/// Messages that wait for a client that reads slowly.
pub(crate) const REPLY_QUEUE: usize = 16;

/// When a request that was refused for want of room may be worth another try.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Tokens of a prompt's beginning that requests must share to go to the same group. As many as two
/// long system messages: fewer would send all users of one application to one group.
pub(crate) const AFFINITY_TOKENS: usize = 512;

/// Sequences that a group may have beyond twice another's before requests pass it over.
pub(crate) const LOAD_SLACK: u32 = 8;

/// First and longest pause between attempts to reach the lead for its state.
pub(crate) const WATCH_BACKOFF: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_secs(2));

/// Bytes of text in one message to a client where there may be more than [`MAX_CHUNK`] tokens of it: a
/// whole harmony message, or a rendered prompt. Clients accept 4 MiB by default.
pub(crate) const MAX_WHOLE_TEXT: usize = 3 << 20;

/// Bytes of any message to a client: what gRPC clients accept by default.
pub(crate) const MAX_ANSWER: usize = 4 << 20;

/// Longest that text may be held to be sent together; shorter than a heartbeat.
pub(crate) const MAX_COALESCE: Duration = Duration::from_secs(5);

/// How long a generation goes on without its client, where the client has named it and says nothing
/// else.
pub(crate) const DEFAULT_KEEP: Duration = Duration::from_secs(30);

/// A generation that is older than its request by more than this was begun by another call; clocks of
/// processes and the way between them cost less.
pub(crate) const REPEAT_AGE: Duration = Duration::from_millis(10);

/// How long a call that names a generation is held while no lead can tell of it: longer than a dead
/// lead's lease of ten seconds, and some time for the next one to hear what it has left. A client
/// waits for the answer meanwhile.
pub(crate) const ASK_HOLD: Duration = Duration::from_secs(15);

/// Calls that name a generation and are held at a time. An eighth of the requests for which there is room:
/// [`MAX_SHORT_REQUESTS`] in units of [`REQUEST_UNIT`].
pub(crate) const MAX_HELD: usize = 4096;

/// A call that has no answer after this is held. A lead answers between two steps.
pub(crate) const HELD_AFTER: Duration = Duration::from_millis(250);

/// How long a lead may take to say whether it knows a generation. It answers between two steps.
pub(crate) const FIND_TIME: Duration = Duration::from_secs(3);

/// How long after its arrival a request waits for groups that cannot say whether they know it, where
/// the one that it is for can. Longer than to connect again; one that had it nevertheless would generate
/// the same for nobody until it is kept no more.
pub(crate) const OTHERS_HOLD: Duration = Duration::from_secs(2);

/// How long a lead may take to put forced tokens into a generation, before it is looked for again.
pub(crate) const FORCE_TIME: Duration = Duration::from_secs(5);

/// Bytes of a client's labels in the log.
pub(crate) const MAX_LOGGED_LABELS: usize = 256;

/// First and longest pause between attempts to find a lost generation at a lead.
pub(crate) const REGAIN_BACKOFF: (Duration, Duration) =
    (Duration::from_millis(50), Duration::from_secs(2));
