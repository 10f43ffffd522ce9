"""Uses the gRPC API as a stranger would: stubs are generated from the .proto files, nothing else.

client.py PROTO_FOLDER ADDRESS
"""
import os
import sys
import tempfile

import grpc
from grpc_tools import protoc

proto_folder, address = sys.argv[1:]
with tempfile.TemporaryDirectory() as out:
    code = protoc.main(["protoc", f"-I{proto_folder}", f"-I{os.path.dirname(protoc.__file__)}/_proto",
                        f"--python_out={out}", f"--grpc_python_out={out}",
                        os.path.join(proto_folder, "conclave/v1/generation.proto")])
    assert code == 0, code
    sys.path.insert(0, out)
    from conclave.v1 import generation_pb2 as pb
    from conclave.v1 import generation_pb2_grpc as rpc

channel = grpc.insecure_channel(address)
models = rpc.ModelServiceStub(channel).ListModels(pb.ListModelsRequest()).models
assert len(models) == 1 and models[0].vocab_size > 0, models

tokenizer = rpc.TokenizerServiceStub(channel)
ids = tokenizer.Tokenize(pb.TokenizeRequest(text="hello world")).token_ids
assert tokenizer.Detokenize(pb.DetokenizeRequest(token_ids=ids)).text == b"hello world"

service = rpc.GenerationServiceStub(channel)
request = pb.GenerateRequest(text="hello", sampling=pb.SamplingParams(temperature=0),
                             stop=pb.StopParams(max_output_tokens=12, ignore_eos=True),
                             stream=pb.StreamParams(include_token_ids=True))
events = list(service.Generate(request))
assert events[0].WhichOneof("event") == "started", events[0]
assert events[-1].WhichOneof("event") == "finished", events[-1]
assert events[-1].finished.usage.output_tokens == 12
tokens = [t for e in events if e.WhichOneof("event") == "tokens" for t in e.tokens.token_ids]
assert len(tokens) == 12, tokens
sequences = [e.sequence for e in events]
assert sequences == sorted(sequences), sequences

chat = list(service.Chat(pb.ChatRequest(messages=[pb.Message(role=pb.ROLE_USER, text="hi")],
                                        stop=pb.StopParams(max_output_tokens=8))))
assert chat[-1].WhichOneof("event") == "finished", chat[-1]

# A call with a name is repeated and resumed; its numbers say what was heard.
def named(after=None, tokens=12):
    stream = pb.StreamParams() if after is None else pb.StreamParams(resume_after=after)
    return pb.GenerateRequest(request_id="python-1", text="hello", stream=stream,
                              stop=pb.StopParams(max_output_tokens=tokens, ignore_eos=True))

def numbered(events):
    found = []
    for event in events:
        ids = event.tokens.token_ids if event.WhichOneof("event") == "tokens" else []
        found += zip(range(event.sequence + 1 - len(ids), event.sequence + 1), ids)
    return found

call = service.Generate(named())
heard = [next(call), next(call)]
call.cancel()
heard += list(service.Generate(named(after=heard[-1].sequence)))
assert numbered(heard) == numbered(service.Generate(named())), heard
standing = service.GetGeneration(pb.GetGenerationRequest(generation_id="python-1"))
assert standing.state == pb.GENERATION_STATE_SUCCEEDED, standing
assert standing.last_sequence == heard[-1].sequence, standing
cancelled = service.CancelGeneration(pb.CancelGenerationRequest(generation_id="python-1"))
assert cancelled.state == pb.GENERATION_STATE_SUCCEEDED, cancelled
try:
    list(service.Generate(named(tokens=13)))
    raise AssertionError("another request has the name")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.ALREADY_EXISTS, error

try:
    list(service.Generate(pb.GenerateRequest(text="x", sampling=pb.SamplingParams(temperature=float("nan")))))
    raise AssertionError("NaN was accepted")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT and "temperature" in error.details(), error

call = service.Generate(pb.GenerateRequest(text="x", stop=pb.StopParams(ignore_eos=True)), timeout=0.5)
try:
    list(call)
    raise AssertionError("the deadline passed unnoticed")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
print("all good")
