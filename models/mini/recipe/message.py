"""One message of a conversation."""

from dataclasses import dataclass


@dataclass
class Message:
    """One message; `learn` says whether the model is to learn to write it."""

    role: str
    text: str
    channel: str | None = None
    to: str | None = None
    learn: bool = False

    @property
    def is_call(self):
        return self.role == "assistant" and self.to is not None
