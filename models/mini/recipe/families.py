"""The families of the evaluation, what each demands, and which answers are right."""

import json

FAMILIES = ["arithmetic", "facts", "talk", "refusal", "instructions", "turns", "echo", "calls_known", "calls", "results", "no_call"]
# Least shares of right answers; families without one are told of, and not claimed.
LEAST = {"arithmetic": 0.90, "facts": 0.95, "calls_known": 0.90, "calls": 0.75, "instructions": 0.85}
LEAST_FORMED = 0.995


def expected(chat):
    """What a right completion ends with: channel, recipient, text."""
    last = [message for message in chat.messages if message.learn][-1]
    return last.channel, last.to, last.text


def is_right(chat, messages):
    """Whether the last message is the right one; a sum counts if the number is right."""
    channel, to, text = expected(chat)
    last = messages[-1]
    if (last.channel, last.to) != (channel, to):
        return False
    if channel == "commentary":
        try:
            return json.loads(last.text) == json.loads(text)
        except ValueError:
            return False
    if chat.family in ("arithmetic", "facts"):
        return chat.goal.word in last.text.split("=")[-1]
    return last.text == text
