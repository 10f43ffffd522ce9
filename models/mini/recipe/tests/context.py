"""What the tests share: the modules of the recipe, a small vocabulary and a small model."""

import functools
import pathlib
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import vocabulary  # noqa: E402
from harmony import Harmony  # noqa: E402


@functools.cache
def folder():
    """A folder that lives as long as the tests."""
    held = tempfile.TemporaryDirectory()
    return held, pathlib.Path(held.name)


@functools.cache
def harmony():
    """A vocabulary made from fewer texts than the real one: that takes seconds."""
    path = folder()[1] / "tokenizer.json"
    full, vocabulary.SAMPLE = vocabulary.SAMPLE, 60
    try:
        vocabulary.write(path, 0, 900)
    finally:
        vocabulary.SAMPLE = full
    return Harmony(path)


def model():
    """A model with all numbers different from nothing."""
    # The conversations and the vocabulary are tested also where there is no PyTorch.
    import torch

    from model import Model, Shape

    torch.manual_seed(0)
    made = Model(Shape(rows=harmony().rows, hidden=64, intermediate=128, layers=3))
    with torch.no_grad():
        for name, tensor in made.named_parameters():
            if "bias" in name or "sinks" in name:
                tensor.normal_()
    return made.eval()
