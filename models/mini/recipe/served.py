"""Scores a served model through the gRPC API, on clusters of several sizes.

    python served.py --conclave PROGRAM --proto FOLDER --model FOLDER --count 1000 --ranks 1 2 3

Needs grpcio and grpcio-tools, no PyTorch. Ends with 1 if a family that the model's card claims falls short, or clusters
differ. Of fewer than 1,000 conversations a family falls short where the bar is above what chance may explain.
"""

import argparse
import asyncio
import collections
import contextlib
import json
import os
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import threading

import grpc
from grpc_tools import protoc

import data
from families import (CLAIMED, ENOUGH, FAMILIES, LEAST, LEAST_CLAIMED, LEAST_FORMED, MOST_TOKENS, NOT_CLAIMED, interval, is_formed,
                      is_right, misses, part)
from message import Message

# Conversations at a time: what a small cluster decodes together.
TOGETHER = 32
CHANNELS = ["", "analysis", "commentary", "final"]
# Ports to listen on: below those that systems hand out by themselves, above those of the end-to-end tests.
PORTS = range(32_000, 32_768)
# Conversations, of all families, of which it is asked whether more effort is longer reasoning.
SOME = 100
# Seconds that a cluster may take to serve, and to end.
READY, ENDED = 120, 30


def stubs(proto, out):
    """Makes the API's modules from its definition, in a folder."""
    file = pathlib.Path(proto) / "conclave/v1/generation.proto"
    made = protoc.main(["protoc", f"-I{proto}", f"-I{os.path.dirname(protoc.__file__)}/_proto", f"--python_out={out}",
                        f"--grpc_python_out={out}", str(file)])
    if made != 0:
        sys.exit(f"error: {file} cannot be compiled")
    sys.path.insert(0, out)
    from conclave.v1 import generation_pb2, generation_pb2_grpc

    return generation_pb2, generation_pb2_grpc


def free_ports(count):
    """So many ports that nobody listens on, all different."""
    free = []
    with contextlib.ExitStack() as held:
        for port in random.sample(PORTS, len(PORTS)):
            try:
                held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            free.append(port)
            if len(free) == count:
                return free
    sys.exit(f"error: no {count} free ports from {PORTS.start} to {PORTS.stop}")


def ending_tokens(model):
    """The ids of the tokens that end a right answer, from the model's tokenizer."""
    file = model / "tokenizer.json"
    try:
        ids = {token["content"]: token["id"] for token in json.loads(file.read_text())["added_tokens"]}
        return {name: ids[f"<|{name}|>"] for name in ("return", "call")}
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"error: --model {model}: {file} does not tell the tokens <|return|> and <|call|>: {error!r}")


class Cluster:
    """`conclave up` with so many workers of one rank each; ended with the block."""

    def __init__(self, program, model, ranks, numerics):
        names = ("--grpc", "--http", "--admin")
        listen = [word for name, port in zip(names, free_ports(len(names))) for word in (name, f"127.0.0.1:{port}")]
        self.command = [program, "up", "--model", str(model), "--workers", str(ranks), "--numerics", numerics, *listen]

    def __enter__(self):
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        late = threading.Timer(READY, self.process.terminate)
        late.start()
        for line in self.process.stdout:
            if line.startswith("ready: gRPC "):
                late.cancel()
                return line.split()[2].rstrip(",")
        late.cancel()
        code = self.process.wait()
        self.log.seek(0)
        sys.exit(f"error: {' '.join(self.command)} ended with {code} before it served (it has {READY} seconds):\n{self.log.read()[-2000:]}")

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.communicate(timeout=ENDED)
        except subprocess.TimeoutExpired:
            # Its workers end with it.
            self.process.kill()
            self.process.communicate()
        self.log.close()


def content_type(is_call):
    """What a message of the model says of its content."""
    return "<|constrain|>json" if is_call else ""


def message(pb, given):
    """A message of the conversation as a client writes it."""
    if given.role == "user":
        return pb.Message(role=pb.ROLE_USER, text=given.text)
    if given.role == "assistant":
        channel = CHANNELS.index(given.channel or "final")
        kind = content_type(given.is_call)
        return pb.Message(role=pb.ROLE_ASSISTANT, channel=channel, recipient=given.to or "", content_type=kind, text=given.text)
    return pb.Message(role=pb.ROLE_TOOL, name=given.role, channel=pb.CHANNEL_COMMENTARY, recipient=given.to or "", text=given.text)


def request(pb, chat, temperature, seed):
    """The conversation up to where the model is to write."""
    first = next(at for at, given in enumerate(chat.messages) if given.learn)
    tools = [function.schema() for function in chat.functions]
    return pb.ChatRequest(
        messages=[message(pb, given) for given in chat.messages[:first]],
        instructions=chat.instructions or "", conversation_date=chat.date or "",
        tools=[pb.FunctionTool(name=tool["name"], description=tool["description"],
                               parameters_json=json.dumps(tool["parameters"]) if tool["parameters"]["properties"] else "")
               for tool in tools],
        reasoning_effort=pb.ReasoningEffort.Value(f"REASONING_EFFORT_{chat.effort.upper()}"),
        sampling=pb.SamplingParams(temperature=temperature, seed=seed),
        stop=pb.StopParams(max_output_tokens=MOST_TOKENS),
        stream=pb.StreamParams(delivery=pb.DELIVERY_FINAL_ONLY))


async def answer(pb, service, wanted, ends):
    """Returns the messages of an answer, whether it is well-formed Harmony, and how much of it is reasoning."""
    messages, formed, finished = [], True, None
    async for event in service.Chat(wanted):
        kind = event.WhichOneof("event")
        if kind == "message_done":
            said = event.message_done.message
            formed &= said.role == pb.ROLE_ASSISTANT and said.channel != pb.CHANNEL_UNSPECIFIED
            formed &= said.content_type == content_type(bool(said.recipient))
            messages.append(Message("assistant", said.text, CHANNELS[said.channel], said.recipient or None))
        # A warning says what had to be repaired.
        formed &= kind != "warning" or event.warning.reason == "RESUMED"
        finished = event.finished if kind == "finished" else finished
    if finished is None:
        sys.exit("error: an answer ended without telling why: is the cluster still there?")
    # The token that ended it belongs to what was said last.
    end = ends["call" if messages and messages[-1].is_call else "return"]
    formed &= is_formed(messages) and finished.matched_token_id == end
    return messages, formed, finished.usage.reasoning_tokens


async def answers(modules, address, chats, temperature, ends):
    """Asks for all, so many at a time; conversation by conversation the same seed on every cluster."""
    pb, rpc = modules
    room = asyncio.Semaphore(TOGETHER)
    async with grpc.aio.insecure_channel(address) as channel:
        service = rpc.GenerationServiceStub(channel)

        async def one(index, chat):
            async with room:
                try:
                    return await answer(pb, service, request(pb, chat, temperature, index), ends)
                except grpc.aio.AioRpcError as error:
                    sys.exit(f"error: conversation {index} at temperature {temperature}: {error.code().name}: {error.details()}")

        return await asyncio.gather(*(one(index, chat) for index, chat in enumerate(chats)))


def table(found, chats):
    """Prints the scores on a cluster; returns what of the card's claims falls short."""
    short = []
    print("| family | asked | right % | 95 % interval | at least % | well-formed % at temperature 1 | reasoning |\n|---|---|---|---|---|---|---|")
    for family, (cold, warm) in found.items():
        count = len(chats[family])
        right = sum(formed and is_right(chat, messages) for chat, (messages, formed, _) in zip(chats[family], cold)) / count
        formed = sum(formed for _, formed, _ in warm) / count
        least = LEAST.get(family, LEAST_CLAIMED if family in CLAIMED else None)
        if family in CLAIMED and (misses(right, count, least) or misses(formed, count, LEAST_FORMED)):
            short.append(family)
        said = f"{100 * least:.0f}" if least else ""
        low, high = interval(right, count)
        means = reasoning([(chats[family], cold)])
        lengths = " / ".join(f"{mean:.0f}" for mean in means.values())
        # Of few conversations the mean length says more of the questions than of the effort.
        if family in CLAIMED and count >= ENOUGH and not rises(means):
            short.append(f"{family}: reasoning effort")
        print(f"| {family} | {count} | {100 * right:.1f} | {100 * low:.1f} - {100 * high:.1f} | {said} | {100 * formed:.1f} | {lengths} |")
    short += parts(found, chats)
    means = reasoning([(chats[family], cold) for family, (cold, _) in found.items()])
    print("\nmean tokens of reasoning: " + ", ".join(f"{effort} {mean:.1f}" for effort, mean in means.items()), flush=True)
    enough = sum(map(len, chats.values())) >= SOME
    return [*short, "reasoning effort"] if enough and not rises(means) else short


def parts(found, chats):
    """Prints the scores of the parts of families; returns what of the card's claims falls short."""
    short = []
    print("\n| family | part | asked | right % | 95 % interval |\n|---|---|---|---|---|")
    for family, (cold, _) in found.items():
        right = collections.defaultdict(list)
        for chat, (messages, formed, _) in zip(chats[family], cold):
            right[part(family, chat)].append(formed and is_right(chat, messages))
        for name in sorted(filter(None, right)):
            count, share = len(right[name]), sum(right[name]) / len(right[name])
            low, high = interval(share, count)
            print(f"| {family} | {name} | {count} | {100 * share:.1f} | {100 * low:.1f} - {100 * high:.1f} |")
            least = max(LEAST.get(family, 0), LEAST_CLAIMED)
            # Of all conversations of a family the share of each part is taken as it is too.
            is_short = share < least if len(cold) >= ENOUGH else misses(share, count, least)
            if name not in NOT_CLAIMED and is_short:
                short.append(f"{family}: {name}")
    return short


def reasoning(answered):
    """The mean length of what was reasoned under each effort that was asked, the least effort first."""
    lengths = {"low": [], "medium": [], "high": []}
    for chats, cold in answered:
        for chat, (_, _, tokens) in zip(chats, cold):
            lengths[chat.effort].append(tokens)
    return {effort: sum(all_) / len(all_) for effort, all_ in lengths.items() if all_}


def rises(means):
    """Whether more effort is longer reasoning."""
    lengths = list(means.values())
    return all(less < more for less, more in zip(lengths, lengths[1:]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conclave", required=True, help="the program")
    parser.add_argument("--proto", required=True, help="folder of the API's definition")
    parser.add_argument("--model", required=True, type=pathlib.Path)
    parser.add_argument("--count", type=int, default=1000, help="conversations of a family")
    parser.add_argument("--families", nargs="+", default=FAMILIES, choices=FAMILIES)
    parser.add_argument("--numerics", default="exact", choices=["fast", "exact"], help="how the ranks compute")
    parser.add_argument("--ranks", nargs="+", type=int, default=[1, 2, 3], help="sizes of the clusters")
    parser.add_argument("--seed", type=int, default=1, help="of the conversations; those of 0 were looked at while the recipe was written")
    args = parser.parse_args()
    if min(args.count, *args.ranks) < 1:
        parser.error("--count and --ranks are numbers from 1 on")
    with tempfile.TemporaryDirectory(prefix="conclave-stubs-") as folder:
        modules = stubs(args.proto, folder)
    ends = ending_tokens(args.model)
    chats = {family: data.held_out(args.seed, family, args.count) for family in args.families}
    first, short, differ = None, [], []
    for ranks in args.ranks:
        with Cluster(args.conclave, args.model, ranks, args.numerics) as address:
            found = {}
            for family, asked in chats.items():
                print(f"{ranks} ranks: {family}", file=sys.stderr, flush=True)
                found[family] = [asyncio.run(answers(modules, address, asked, temperature, ends)) for temperature in (0.0, 1.0)]
        if first is None:
            first, short = found, table(found, chats)
        differ += [f"{family} on {ranks} ranks" for family in found if found[family] != first[family]]
    print(f"clusters of {', '.join(map(str, args.ranks))} ranks: " + ("the same answers" if not differ else f"DIFFERENT {differ}"))
    if short or differ:
        sys.exit(f"error: short of what is claimed: {', '.join(short) or 'nothing'}; different: {', '.join(differ) or 'nothing'}")


if __name__ == "__main__":
    main()
