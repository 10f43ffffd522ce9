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
    /// Everything so far, special tokens by name.
    bytes: Vec<u8>,
    /// Which of the bytes are special tokens.
    specials: Vec<Item>,
    num_words: usize,
    /// Whether the last byte belongs to a word.
    in_word: bool,
}

/// A part of a header, but for blanks, and where it begins and ends.
#[derive(Clone, Copy, Debug)]
struct Item {
    kind: Kind,
    start: usize,
    end: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Word,
    Channel,
    Constrain,
    /// A special token without a meaning here.
    Special,
}

/// A longer text is no header: a recipient's name has at most 64 bytes in OpenAI's API.
const MAX_BYTES: usize = 256;

/// More words are no header: a role, a recipient, a channel, a content type, and some doubled. Nor
/// are more special tokens.
const MAX_WORDS: usize = 8;

/// The name of the channel token.
const CHANNEL: &str = "<|channel|>";

/// Stands before a recipient.
const TO: &str = "to=";

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
            bytes: Vec::new(),
            specials: Vec::new(),
            num_words: 0,
            in_word: false,
        }
    }

    /// Appends a byte of text. A byte, not a token, so that the limits fall at the same place
    /// however the text was cut into tokens.
    pub(super) fn push(&mut self, byte: u8) {
        self.bytes.push(byte);
        let blank = byte.is_ascii_whitespace();
        self.num_words += usize::from(!blank && !self.in_word);
        self.in_word = !blank;
    }

    /// Appends `<|channel|>`.
    pub(super) fn push_channel(&mut self) {
        self.push_token(Kind::Channel, CHANNEL.as_bytes());
    }

    /// Appends `<|constrain|>`.
    pub(super) fn push_constrain(&mut self) {
        self.push_token(Kind::Constrain, CONSTRAIN.as_bytes());
    }

    /// Appends a special token that has no place in a header.
    pub(super) fn push_special(&mut self, name: &[u8]) {
        self.num_words += 1;
        self.push_token(Kind::Special, name);
    }

    fn push_token(&mut self, kind: Kind, name: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name);
        let end = self.bytes.len();
        self.specials.push(Item { kind, start, end });
        self.in_word = false;
    }

    /// Says whether this has grown beyond what a header can be.
    pub(super) fn is_too_long(&self) -> bool {
        self.bytes.len() > MAX_BYTES
            || self.num_words > MAX_WORDS
            || self.specials.len() > MAX_WORDS
    }

    /// Says whether nothing but blanks has come.
    pub(super) fn is_blank(&self) -> bool {
        self.num_words == 0 && self.specials.is_empty()
    }

    /// Says whether the first word is a role, before any special token.
    pub(super) fn begins_with_a_role(&self) -> bool {
        self.items()
            .first()
            .filter(|first| first.kind == Kind::Word)
            .is_some_and(|word| known_role(&self.bytes[word.start..word.end]).is_some())
    }

    /// Says whether the first word is a role, or may become one when more text comes.
    pub(super) fn can_begin_with_a_role(&self) -> bool {
        let unfinished = match &self.items()[..] {
            [] => true,
            [only] => {
                only.kind == Kind::Word
                    && only.end == self.bytes.len()
                    && begins_a_role(&self.bytes[only.start..])
            }
            _ => false,
        };
        !self.is_too_long() && (unfinished || self.begins_with_a_role())
    }

    /// Returns the header as text, special tokens by name.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Reads a header that `<|message|>` has ended: all its words have a place in it, if there
    /// are not too many of them.
    pub(super) fn read(&self) -> Reading {
        Reader::new(self, Mode::Complete).read(false)
    }

    /// Reads a header that ended otherwise: what is marked as a part of a header is one, and the
    /// first word that is not begins the content.
    pub(super) fn salvage(&self) -> Reading {
        // Where it is too long, its last word goes on after the cut, and is left whole.
        Reader::new(self, Mode::Salvage).read(self.is_too_long())
    }

    /// Reads a header in which the tokens ended, or nothing if all of it is header.
    ///
    /// What stands after `to=` is text here: the name may be the beginning of a longer one, and a
    /// call of another function is worse than none.
    pub(super) fn salvage_cut(&self) -> Option<Reading> {
        let text = self.salvage().text;
        let is_header = text.is_empty() || text == TO.as_bytes();
        (!is_header).then(|| Reader::new(self, Mode::Cut).read(false))
    }

    /// Returns the words and special tokens in order.
    fn items(&self) -> Vec<Item> {
        let mut items = Vec::new();
        let mut at = 0;
        let ends = self.specials.iter().map(|special| special.start);
        for (i, end) in ends.chain([self.bytes.len()]).enumerate() {
            while let Some((start, end)) = next_word(&self.bytes[..end], at) {
                let kind = Kind::Word;
                items.push(Item { kind, start, end });
                at = end;
            }
            if let Some(&special) = self.specials.get(i) {
                items.push(special);
                at = special.end;
            }
        }
        items
    }
}

/// How a header ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// With `<|message|>`.
    Complete,
    /// Otherwise.
    Salvage,
    /// With the last token.
    Cut,
}

/// The state of reading a header.
struct Reader<'a> {
    open: &'a OpenHeader,
    mode: Mode,
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
    fn new(open: &'a OpenHeader, mode: Mode) -> Self {
        Self {
            open,
            mode,
            role: open.given,
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

    /// Reads everything; with `cut`, what reaches the end is text.
    ///
    /// Blanks between parts of the header are header. All other blanks are text, but for one that
    /// divides the text from the header before it.
    fn read(mut self, cut: bool) -> Reading {
        let bytes = &self.open.bytes[..];
        let (mut at, mut after_bare) = (0, false);
        for item in self.open.items() {
            let gap = &bytes[at..item.start];
            let is_headed = !self.before_role || self.role_is_said;
            let is_taken = !(cut && item.end == bytes.len()) && self.takes(item);
            if is_taken {
                if after_bare {
                    self.text.extend_from_slice(gap);
                }
            } else {
                self.settle();
                self.before_role = false;
                let from = at + usize::from(is_headed && gap.starts_with(b" "));
                if self.mode != Mode::Complete {
                    // From here on it is content, whatever comes.
                    self.text = bytes[from..].to_vec();
                    return self.finish();
                }
                match self.text.last() {
                    None => self.text.extend_from_slice(&bytes[from..item.start]),
                    Some(last) if !after_bare && gap.is_empty() && !last.is_ascii_whitespace() => {
                        self.text.push(b' ');
                    }
                    Some(_) => self.text.extend_from_slice(gap),
                }
                self.bare.push(&bytes[item.start..item.end]);
                self.text.extend_from_slice(&bytes[item.start..item.end]);
            }
            (at, after_bare) = (item.end, !is_taken);
        }
        self.settle();
        if after_bare {
            self.text.extend_from_slice(&bytes[at..]);
        }
        self.place_words();
        self.finish()
    }

    /// Takes a part of the header, or returns false.
    fn takes(&mut self, item: Item) -> bool {
        match item.kind {
            Kind::Word => self.takes_word(&self.open.bytes[item.start..item.end]),
            Kind::Channel => self.mark(Awaits::Channel),
            Kind::Constrain => self.mark(Awaits::Constrain),
            Kind::Special => false,
        }
    }

    fn mark(&mut self, marker: Awaits) -> bool {
        self.settle();
        self.before_role = false;
        self.awaits = Some(marker);
        true
    }

    /// Gives up waiting for a marker's word.
    fn settle(&mut self) {
        match self.awaits.take() {
            Some(Awaits::Channel) => self.warnings.push(Warning::EmptyChannel),
            Some(Awaits::Constrain) => self.set_content_type(CONSTRAIN.to_owned()),
            None => {}
        }
    }

    /// Takes a word that something marks as a part of the header, or returns false.
    fn takes_word(&mut self, bytes: &[u8]) -> bool {
        let word = String::from_utf8_lossy(bytes);
        if let Some(recipient) = word.strip_prefix(TO) {
            return self.takes_recipient(recipient);
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

    /// Takes what follows `to=`. Without a name it is nothing in a complete header, else text.
    fn takes_recipient(&mut self, recipient: &str) -> bool {
        let is_taken = match self.mode {
            Mode::Complete => true,
            Mode::Salvage => !recipient.is_empty(),
            Mode::Cut => false,
        };
        if is_taken {
            self.settle();
            self.before_role = false;
        }
        if is_taken && !recipient.is_empty() {
            let warn = |ignored| Warning::SecondRecipient { ignored };
            let recipient = recipient.to_owned();
            replace(&mut self.recipient, recipient, &mut self.warnings, warn);
        }
        is_taken
    }

    /// Takes a word that is the role: the first of a header, or, where `<|message|>` has shown
    /// that it is one, the first that nothing marks.
    fn takes_role(&mut self, word: &str, spells_special: bool) -> bool {
        let first = self.mode == Mode::Complete && self.bare.is_empty() && self.recipient.is_none();
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
        } else if self.mode == Mode::Complete && self.before_role && !spells_special {
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
                let last = self.text.last();
                if last.is_some_and(|last| !last.is_ascii_whitespace()) {
                    self.text.push(b' ');
                }
                self.warnings.push(Warning::ExtraWords);
                return;
            }
        }
        self.text.clear();
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
