"""Conversations as token ids, in the form that gpt-oss was trained on."""

import tokenizers

from message import Message

IDENTITY = "You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: 2024-06"
CHANNELS = "# Valid channels: analysis, commentary, final. Channel must be included for every message."
FUNCTIONS = "\nCalls to these tools must go to the commentary channel: 'functions'."


def system(effort, date, with_functions):
    """Returns the text of the system message."""
    top = IDENTITY + (f"\nCurrent date: {date}" if date else "")
    return f"{top}\n\nReasoning: {effort}\n\n{CHANNELS}" + (FUNCTIONS if with_functions else "")


def developer(instructions, functions):
    """Returns the text of the developer message, or nothing if there is none."""
    parts = []
    if instructions:
        parts.append(f"# Instructions\n\n{instructions}")
    if functions:
        listed = "".join(f"\n{function.declaration()}\n" for function in functions)
        parts.append(f"# Tools\n\n## functions\n\nnamespace functions {{\n{listed}\n}} // namespace functions")
    return "\n\n".join(parts)


class Harmony:
    """A tokenizer and the special tokens of Harmony, by name."""

    def __init__(self, path):
        self.tokenizer = tokenizers.Tokenizer.from_file(str(path))
        # Names of special tokens inside a text are ordinary text.
        self.tokenizer.encode_special_tokens = True
        names = ["start", "end", "message", "channel", "constrain", "return", "call", "endoftext"]
        self.special = {name: self.tokenizer.token_to_id(f"<|{name}|>") for name in names}
        self.rows = self.tokenizer.get_vocab_size()
        self.known = {}

    def text(self, text):
        """Encodes an ordinary text."""
        if text not in self.known:
            if len(self.known) > 200_000:
                self.known.clear()
            self.known[text] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return self.known[text]

    def header(self, message):
        ids = list(self.text(message.role))
        if message.to:
            ids += self.text(f" to={message.to}")
        if message.channel:
            ids += [self.special["channel"], *self.text(message.channel)]
        if message.is_call:
            ids += [*self.text(" "), self.special["constrain"], *self.text("json")]
        return ids

    def prefix(self, chat):
        """Encodes what all branches of a conversation share: system and developer message."""
        messages = [Message("system", system(chat.effort, chat.date, bool(chat.functions)))]
        about = developer(chat.instructions, chat.functions)
        if about:
            messages.append(Message("developer", about))
        return self.messages(messages)[0]

    def messages(self, messages):
        """Encodes messages; says of each token whether the model learns to write it."""
        ids, learn = [], []
        before = "user"
        for index, message in enumerate(messages):
            header = self.header(message)
            is_last = index == len(messages) - 1
            closing = "call" if message.is_call else "return" if is_last and message.channel == "final" else "end"
            part = [self.special["start"], *header, self.special["message"], *self.text(message.text), self.special[closing]]
            # `<|start|>assistant` is given to the model where it is asked to write.
            given = 0 if before == "assistant" and message.learn else 1 + len(self.text("assistant"))
            ids += part
            learn += [message.learn and at >= given for at in range(len(part))]
            before = message.role
        return ids, learn

    def prompt(self, chat):
        """Encodes all that comes before the first message to be written, and asks for it."""
        first = next(at for at, message in enumerate(chat.messages) if message.learn)
        given = chat.messages[:first]
        ids = self.prefix(chat) + self.messages(given + [Message("user", "")])[0]
        cut = len(self.messages([Message("user", "")])[0])
        return [*ids[:-cut], self.special["start"], *self.text("assistant")]


def parse(harmony, ids):
    """Reads a completion: a list of messages, or nothing if it is not well formed."""
    special, messages, at = harmony.special, [], 0
    header = harmony.text("assistant")
    closings = {special[name] for name in ("end", "return", "call")}
    while at < len(ids):
        if messages:
            expected = [special["start"], *header]
            if ids[at:at + len(expected)] != expected:
                return None
            at += len(expected)
        try:
            middle = ids.index(special["message"], at)
        except ValueError:
            return None
        end = next((i for i in range(middle, len(ids)) if ids[i] in closings), None)
        message = read(harmony, ids[at:middle], ids[middle + 1:end]) if end is not None else None
        if message is None or ids[end] != special["call" if message.is_call else "return" if message.channel == "final" else "end"]:
            return None
        messages.append(message)
        at = end + 1
    # A turn ends with an answer or a call.
    return messages if messages and messages[-1].channel != "analysis" else None


def read(harmony, header, content):
    """Reads one message of the assistant."""
    if any(harmony.tokenizer.id_to_token(i).startswith("<|") for i in content):
        return None
    text = harmony.tokenizer.decode(header, skip_special_tokens=False)
    to, channel = None, None
    words = text.replace("<|channel|>", " <|channel|>").replace("<|constrain|>", " <|constrain|>").split()
    for word in words:
        if word.startswith("to="):
            to = word[3:]
        elif word.startswith("<|channel|>"):
            channel = word[len("<|channel|>"):]
        elif word != "<|constrain|>json":
            return None
    if channel not in ("analysis", "commentary", "final"):
        return None
    return Message("assistant", harmony.tokenizer.decode(content), channel, to)
