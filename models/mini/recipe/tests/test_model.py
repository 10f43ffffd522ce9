"""The lean model computes what its file says, however its rows are packed."""

import unittest

import context
import torch

import data
from families import FAMILIES
from export import read, write
from generate import complete
from pack import Batch

IDS = torch.randint(0, context.harmony().rows, (200,), generator=torch.Generator().manual_seed(1)).tolist()


def logits(model, groups):
    batch = Batch(groups)
    with torch.no_grad():
        return model(batch.ids, batch.positions, batch.attend(model.shape.window))


def alone(model, ids):
    """One sequence: a beginning of one token, and one branch."""
    return logits(model, [(ids[:1], [(ids[1:], [True] * len(ids))])])


class Lean(unittest.TestCase):
    def test_packing_changes_nothing(self):
        model = context.model()
        branches = [(IDS[20:25], [1] * 5), (IDS[30:190], [1] * 160), (IDS[3:50], [1] * 47)]
        packed = logits(model, [(IDS[:9], branches[:2]), (IDS[5:8], branches[2:])])
        each = [alone(model, IDS[:9] + IDS[20:25]), alone(model, IDS[:9] + IDS[30:190]), alone(model, IDS[5:8] + IDS[3:50])]
        whole = torch.cat([each[0], each[1][9:], each[2]])
        torch.testing.assert_close(packed, whole, rtol=1e-4, atol=1e-4)

    def test_a_beginning_longer_than_the_window_is_seen_no_further_than_that(self):
        model = context.model()
        begin, branches = IDS[:150], [IDS[20:25], IDS[40:200]]
        packed = logits(model, [(begin, [(branch, [1] * len(branch)) for branch in branches])])
        each = [alone(model, begin + branch) for branch in branches]
        whole = torch.cat([each[0], each[1][150:]])
        torch.testing.assert_close(packed, whole, rtol=1e-4, atol=1e-4)

    def test_wanted_rows_are_the_same_rows(self):
        model = context.model()
        batch = Batch([(IDS[:9], [(IDS[20:40], [step > 7 for step in range(20)])])])
        with torch.no_grad():
            some = model(batch.ids, batch.positions, batch.attend(128), batch.wanted)
            every = model(batch.ids, batch.positions, batch.attend(128))
        self.assertEqual(batch.targets.tolist(), IDS[28:40])
        torch.testing.assert_close(some, every[batch.wanted], rtol=1e-4, atol=1e-4)

    def test_the_cache_writes_what_a_whole_pass_says(self):
        model = context.model()
        prompts = [IDS[:150], IDS[150:190], IDS[190:193]]
        for prompt, out in zip(prompts, complete(model, prompts, stops=[], most=5)):
            for step, token in enumerate(out):
                self.assertEqual(alone(model, prompt + out[:step])[-1].argmax().item(), token)

    def test_a_written_model_reads_back(self):
        model, folder = context.model(), context.folder()[1] / "checkpoint"
        for layer in model.layers:
            layer.experts.round_weights()
        for tensor in model.parameters():
            tensor.data = tensor.data.bfloat16().float()
        context.harmony()
        write(model, context.folder()[1] / "tokenizer.json", folder)
        again = read(folder)
        for (name, a), (_, b) in zip(model.named_parameters(), again.named_parameters()):
            self.assertTrue(torch.equal(a, b), name)

    def test_gradients_of_the_experts_are_those_of_plain_arithmetic(self):
        torch.manual_seed(0)
        experts = context.model().layers[0].experts.double()
        rows = torch.randn(10, 64, dtype=torch.double, requires_grad=True) * 3

        def plain(rows):
            scores, chosen = experts.router(rows).topk(4)
            z = torch.einsum("nh,nkoh->nko", rows, experts.first[chosen]) + experts.first_bias[chosen]
            gate, up = z.chunk(2, -1)
            gate, up = gate.clamp(max=7), up.clamp(-7, 7)
            y = torch.einsum("nki,nkhi->nkh", gate * torch.sigmoid(1.702 * gate) * (up + 1), experts.second[chosen])
            return (scores.softmax(-1).unsqueeze(-1) * (y + experts.second_bias[chosen])).sum(1)

        found = []
        for run in (plain, experts):
            out = run(rows)
            grads = torch.autograd.grad(out.pow(2).sum(), [rows, *experts.parameters()])
            found.append([out, *grads])
        for a, b in zip(*found):
            torch.testing.assert_close(a, b)

    def test_every_batch_of_training_can_be_learnt_from(self):
        harmony, model = context.harmony(), context.model().train()
        chats = [data.held_out(1, family, 2) for family in FAMILIES]
        batch = Batch([(harmony.prefix(some[0]), [harmony.messages(chat.messages) for chat in some]) for some in chats])
        out = model(batch.ids, batch.positions, batch.attend(128), batch.wanted)
        torch.nn.functional.cross_entropy(out, batch.targets).backward()
        self.assertTrue(all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters()))


if __name__ == "__main__":
    unittest.main()
