//! Headers: collected as they come, read once they end.
//!
//! A header is a role, `to=` and a recipient, `<|channel|>` and a channel, and a content type
//! after a blank or after `<|constrain|>`; the recipient may also follow the channel. The model
//! gets this wrong often enough (about one turn in 25 is reported for gpt-oss-20b at temperature
//! 1) that every sequence of tokens must have a reading in which no text is lost.

use super::event::{Header, Warning};
use super::message::{Channel, Role};
use super::tokens::CONSTRAIN;

/// A header that has begun.
#[derive(Clone, Debug)]
pub(super) struct OpenHeader {
    /// The role, where it is not part of the text: at the end of a prompt, or without `<|start|>`.
    given: Option<Role>,
    pieces: Vec<Piece>,
    num_bytes: usize,
    num_words: usize,
    /// Whether the last byte belongs to a word.
    in_word: bool,
}

/// A part of a header.
#[derive(Clone, Debug)]
enum Piece {
    Text(Vec<u8>),
    Channel,
    Constrain,
    /// A special token without a meaning here.
    Special(String),
}

/// A longer text is no header: a recipient's name has at most 64 bytes in OpenAI's API.
const MAX_BYTES: usize = 256;

/// More words are no header: a role, a recipient, a channel, a content type, and some doubled.
const MAX_WORDS: usize = 8;

/// What a header says.
pub(super) struct Reading {
    pub(super) header: Header,
    /// What belongs to the content.
    pub(super) text: Vec<u8>,
    pub(super) warnings: Vec<Warning>,
}

impl OpenHeader {
    /// Begins a header whose role is known, or is its first word.
    pub(super) fn new(given: Option<Role>) -> Self {
        Self {
            given,
            pieces: Vec::new(),
            num_bytes: 0,
            num_words: 0,
            in_word: false,
        }
    }

    /// Appends a byte of text. A byte, not a token, so that the limits fall at the same place
    /// however the text was cut into tokens.
    pub(super) fn push(&mut self, byte: u8) {
        match self.pieces.last_mut() {
            Some(Piece::Text(bytes)) => bytes.push(byte),
            _ => self.pieces.push(Piece::Text(vec![byte])),
        }
        self.num_bytes += 1;
        let blank = byte.is_ascii_whitespace();
        self.num_words += usize::from(!blank && !self.in_word);
        self.in_word = !blank;
    }

    /// Appends `<|channel|>`.
    pub(super) fn push_channel(&mut self) {
        self.push_piece(Piece::Channel);
    }

    /// Appends `<|constrain|>`.
    pub(super) fn push_constrain(&mut self) {
        self.push_piece(Piece::Constrain);
    }

    /// Appends a special token that has no place in a header.
    pub(super) fn push_special(&mut self, name: String) {
        self.num_bytes += name.len();
        self.num_words += 1;
        self.push_piece(Piece::Special(name));
    }

    fn push_piece(&mut self, piece: Piece) {
        self.pieces.push(piece);
        self.in_word = false;
    }

    /// Says whether this has grown beyond what a header can be.
    pub(super) fn is_too_long(&self) -> bool {
        self.num_bytes > MAX_BYTES || self.num_words > MAX_WORDS
    }

    /// Says whether nothing but blanks has come.
    pub(super) fn is_blank(&self) -> bool {
        self.num_words == 0
            && self
                .pieces
                .iter()
                .all(|piece| matches!(piece, Piece::Text(_)))
    }

    /// Says whether the first word is a role.
    pub(super) fn begins_with_a_role(&self) -> bool {
        let Some(Piece::Text(bytes)) = self.pieces.first() else {
            return false;
        };
        next_word(bytes, 0).is_some_and(|(start, end)| known_role(&bytes[start..end]).is_some())
    }

    /// Says whether the first word is a role, or may become one when more text comes.
    pub(super) fn can_begin_with_a_role(&self) -> bool {
        let unfinished = match &self.pieces[..] {
            [] => true,
            [Piece::Text(bytes)] => match next_word(bytes, 0) {
                None => true,
                Some((start, end)) => end == bytes.len() && begins_a_role(&bytes[start..]),
            },
            _ => false,
        };
        !self.is_too_long() && (unfinished || self.begins_with_a_role())
    }

    /// Returns the header as text, special tokens by name.
    pub(super) fn text(&self) -> String {
        let mut bytes = Vec::new();
        for piece in &self.pieces {
            bytes.extend_from_slice(match piece {
                Piece::Text(text) => text,
                Piece::Channel => b"<|channel|>",
                Piece::Constrain => CONSTRAIN.as_bytes(),
                Piece::Special(name) => name.as_bytes(),
            });
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Reads a header that `<|message|>` has ended: all its words have a place in it, if there
    /// are not too many of them.
    pub(super) fn read(&self) -> Reading {
        let mut reader = Reader::new(self.given, true);
        reader.read(&self.pieces, false);
        reader.place_words();
        reader.finish()
    }

    /// Reads a header that ended otherwise: what is marked as a part of a header is one, and the
    /// first word that is not begins the content.
    pub(super) fn salvage(&self) -> Reading {
        let mut reader = Reader::new(self.given, false);
        // Where it is too long, its last word goes on after the cut, and is left whole.
        reader.read(&self.pieces, self.is_too_long());
        reader.finish()
    }
}

/// The state of reading a header.
struct Reader<'a> {
    /// Whether `<|message|>` has ended the header.
    complete: bool,
    role: Option<Role>,
    /// Whether a word of the header has said it.
    role_is_said: bool,
    name: Option<String>,
    channel: Option<String>,
    recipient: Option<String>,
    content_type: Option<String>,
    /// The marker whose word is next.
    awaits: Option<Awaits>,
    /// Whether a role may still come: no other word or marker has.
    before_role: bool,
    /// Words of a complete header that nothing marks.
    bare: Vec<&'a [u8]>,
    text: Vec<u8>,
    warnings: Vec<Warning>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaits {
    Channel,
    Constrain,
}

impl<'a> Reader<'a> {
    fn new(role: Option<Role>, complete: bool) -> Self {
        Self {
            complete,
            role,
            role_is_said: false,
            name: None,
            channel: None,
            recipient: None,
            content_type: None,
            awaits: None,
            before_role: true,
            bare: Vec::new(),
            text: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Reads all pieces; with `cut`, a word that reaches their end is text.
    fn read(&mut self, pieces: &'a [Piece], cut: bool) {
        for (i, piece) in pieces.iter().enumerate() {
            match piece {
                Piece::Text(bytes) => self.read_text(bytes, cut && i + 1 == pieces.len()),
                Piece::Channel => self.mark(Awaits::Channel),
                Piece::Constrain => self.mark(Awaits::Constrain),
                Piece::Special(name) => {
                    self.settle();
                    self.before_role = false;
                    self.add_bare(name.as_bytes());
                }
            }
        }
        self.settle();
    }

    fn mark(&mut self, marker: Awaits) {
        self.settle();
        self.before_role = false;
        self.awaits = Some(marker);
    }

    /// Gives up waiting for a marker's word.
    fn settle(&mut self) {
        match self.awaits.take() {
            Some(Awaits::Channel) => self.warnings.push(Warning::EmptyChannel),
            Some(Awaits::Constrain) => self.set_content_type(CONSTRAIN.to_owned()),
            None => {}
        }
    }

    fn read_text(&mut self, bytes: &'a [u8], cut: bool) {
        let mut at = 0;
        while let Some((start, end)) = next_word(bytes, at) {
            at = end;
            let is_cut = cut && end == bytes.len();
            if !is_cut && self.takes(&bytes[start..end]) {
                continue;
            }
            self.settle();
            self.before_role = false;
            if self.complete {
                self.add_bare(&bytes[start..end]);
            } else {
                // From here on it is content, blanks included.
                return self.add_bare(&bytes[start..]);
            }
        }
    }

    /// Takes a word that something marks as a part of the header, or returns false.
    fn takes(&mut self, bytes: &[u8]) -> bool {
        let word = String::from_utf8_lossy(bytes);
        if let Some(recipient) = word.strip_prefix("to=") {
            self.settle();
            self.before_role = false;
            if !recipient.is_empty() {
                let warn = |ignored| Warning::SecondRecipient { ignored };
                replace(
                    &mut self.recipient,
                    recipient.to_owned(),
                    &mut self.warnings,
                    warn,
                );
            }
            return true;
        }
        // `<` begins a word: the names of special tokens, spelt out, never join another word.
        let spells_special = word.starts_with('<');
        if spells_special {
            self.settle();
        }
        match self.awaits.take() {
            Some(Awaits::Channel) => {
                let warn = |ignored| Warning::SecondChannel { ignored };
                replace(
                    &mut self.channel,
                    word.into_owned(),
                    &mut self.warnings,
                    warn,
                );
                return true;
            }
            Some(Awaits::Constrain) => {
                self.set_content_type(format!("{CONSTRAIN}{word}"));
                return true;
            }
            None => {}
        }
        self.takes_role(&word, spells_special)
    }

    /// Takes a word that is the role: the first of a header, or, where `<|message|>` has shown
    /// that it is one, the first that nothing marks.
    fn takes_role(&mut self, word: &str, spells_special: bool) -> bool {
        let first = self.complete && self.bare.is_empty() && self.recipient.is_none();
        if !(self.before_role || first) {
            return false;
        }
        if self.role.is_some_and(|role| role.as_str() == word) {
            // The role at a prompt's end is often repeated, and that is no fault.
            if std::mem::replace(&mut self.role_is_said, true) {
                self.warnings.push(Warning::RepeatedRole);
            }
            return true;
        }
        if self.role.is_some() {
            return false;
        }
        if let Some(role) = known_role(word.as_bytes()) {
            self.role = Some(role);
            self.name = word.split_once(':').map(|(_, name)| name.to_owned());
        } else if self.complete && self.before_role && !spells_special {
            self.role = Some(Role::Tool);
            self.name = Some(word.to_owned());
        }
        self.role_is_said = self.role.is_some();
        self.role_is_said
    }

    fn set_content_type(&mut self, content_type: String) {
        let warn = |ignored| Warning::SecondContentType { ignored };
        replace(
            &mut self.content_type,
            content_type,
            &mut self.warnings,
            warn,
        );
    }

    fn add_bare(&mut self, words: &'a [u8]) {
        if self.complete {
            self.bare.push(words);
        } else {
            self.add_text(words);
        }
    }

    fn add_text(&mut self, bytes: &[u8]) {
        if self
            .text
            .last()
            .is_some_and(|last| !last.is_ascii_whitespace())
        {
            self.text.push(b' ');
        }
        self.text.extend_from_slice(bytes);
    }

    /// Finds the places of the words that nothing marks: a recipient without `to=`, then a
    /// content type without `<|constrain|>`. If there are more words than places, or one spells a
    /// special token, all of them are put before the content.
    fn place_words(&mut self) {
        let bare = std::mem::take(&mut self.bare);
        let mut words = bare
            .iter()
            .map(|word| String::from_utf8_lossy(word).into_owned());
        let places = (self.recipient.is_none(), self.content_type.is_none());
        let any_special = bare.iter().any(|word| word.starts_with(b"<"));
        match (bare.len(), places) {
            (0, _) => {}
            (1, (false, true)) if !any_special => self.content_type = words.next(),
            (1, (true, _)) | (2, (true, true)) if !any_special => {
                self.recipient = words.next();
                self.content_type = self.content_type.take().or_else(|| words.next());
                let recipient = self.recipient.clone().unwrap_or_default();
                self.warnings.push(Warning::BareRecipient { recipient });
            }
            _ => {
                bare.iter().for_each(|word| self.add_text(word));
                self.text.push(b' ');
                self.warnings.push(Warning::ExtraWords);
            }
        }
    }

    fn finish(mut self) -> Reading {
        if self.role.is_none() {
            self.warnings.push(Warning::MissingRole);
        }
        let header = Header {
            role: self.role.unwrap_or(Role::Assistant),
            name: self.name,
            channel: self.channel.as_deref().map(Channel::from),
            recipient: self.recipient,
            content_type: self.content_type,
        };
        Reading {
            header,
            text: self.text,
            warnings: self.warnings,
        }
    }
}

/// Sets a field, with a warning if it had a value.
fn replace(
    field: &mut Option<String>,
    value: String,
    warnings: &mut Vec<Warning>,
    warning: impl FnOnce(String) -> Warning,
) {
    warnings.extend(field.replace(value).map(warning));
}

/// Returns where the next word begins and ends. Words end at blanks and before `<`.
fn next_word(bytes: &[u8], from: usize) -> Option<(usize, usize)> {
    let start = from
        + bytes[from..]
            .iter()
            .position(|byte| !byte.is_ascii_whitespace())?;
    let ends = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'<';
    let length = bytes[start + 1..].iter().position(ends);
    Some((
        start,
        length.map_or(bytes.len(), |length| start + 1 + length),
    ))
}

/// Returns the role of a word that is a role, or a role, a colon and a name.
fn known_role(word: &[u8]) -> Option<Role> {
    let word = std::str::from_utf8(word).ok()?;
    match word.split_once(':') {
        Some((role, name)) if !name.is_empty() => Role::from_word(role),
        _ => Role::from_word(word),
    }
}

/// Says whether a word may become a role when more of it comes.
fn begins_a_role(word: &[u8]) -> bool {
    let before_colon = word.split(|&byte| byte == b':').next().unwrap_or_default();
    Role::ALL.iter().any(|role| {
        let name = role.as_str().as_bytes();
        if before_colon.len() < word.len() {
            name == before_colon
        } else {
            name.starts_with(word)
        }
    })
}
