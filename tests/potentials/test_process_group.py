"""One loss over several processes: two ranks with unequal parts of the data give the result of one process."""

import json
import os

import numpy as np
import pytest
import torch
import torch.distributed.nn.functional  # before there is a group, which its default arguments would hold
from torch import distributed, nn

import landscape as ls
from landscape import probes
from landscape.errors import ConfigError
from landscape.potentials import NetworkLoss, architectures
from landscape.potentials.network.sharding import Shards
from tests.docs.pages import ROOT, blocks, output
from tests.ordinary import LONG

GUIDE = ROOT / "docs" / "many_devices.md"

SAMPLES, FIRST = 23, 14  # on rank 0; the other has 9
PARTS = (slice(0, FIRST), slice(FIRST, SAMPLES))
KINDS = ("plain", "general", "several") if LONG else ("plain",)


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Several(nn.Module):
    """Takes its inputs by name, and returns a dict."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))

    def forward(self, first, second):
        return {"logits": self.net(torch.cat([first, second], 1))}


def network(kind, seed=1):
    if kind == "plain":
        return architectures.mlp([5, 6, 3], activation="tanh", seed=seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if kind == "several":
            return Several()
        return nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 3))


def noisy(inputs, words):
    """An augmentation that depends on the random words of each sample."""
    if isinstance(inputs, dict):
        return {name: noisy(part, words) for name, part in inputs.items()}
    return inputs + words[:, :1].to(inputs) / 2**32


def arranged(kind, inputs):
    return {"first": inputs[:, :2], "second": inputs[:, 2:]} if kind == "several" else inputs


def loss_on(part, group=None, kind="plain", **settings):
    labels = torch.randint(3, (SAMPLES,), generator=torch.Generator().manual_seed(1))
    inputs, others = (arranged(kind, draws(SAMPLES, 5, seed=seed)[part]) for seed in (0, 2))
    held_out = (others, labels.flip(0)[part])
    return NetworkLoss(
        settings.pop("module", None) or network(kind), inputs, labels[part], evaluation=held_out,
        dtype=torch.float64, process_group=group, **settings,
    )  # fmt: skip


def derivatives(loss):
    """Every sum over samples, at three positions."""
    curvature = probes.curvature
    at = loss.position() + 0.3 * draws(3, loss.dim, seed=3)
    along = draws(3, loss.dim, seed=4)
    found = {
        name: getattr(loss, name)(at)
        for name in ("energy", "gradient", "hessian", "sample_energies", "sample_gradients", "accuracy",
                     "evaluation_energy")
    }  # fmt: skip
    found["hvp"] = loss.hvp(at, along)
    found["eigenvalues"] = curvature.eigenvalues(loss, at).eigenvalue
    found["largest_eigenvalue"] = curvature.largest_eigenvalue(loss, at, rtol=1e-6).largest
    found["trace"] = curvature.trace(loss, at, probes=9).trace
    for labels in ("model", "sampled", "empirical"):
        fisher = curvature.fisher_trace(loss, at, labels=labels)
        found[f"fisher_trace {labels}"], found[f"its error {labels}"] = fisher.fisher_trace, fisher.fisher_trace_stderr
        found[f"fisher {labels}"] = curvature.FisherOperator(loss, at[0], labels=labels) @ along[0]
    found["gauss_newton"] = curvature.GaussNewtonOperator(loss, at[0], chunk_size=4) @ along[0]
    return {name: np.asarray(value) for name, value in found.items()}


RUNS = {
    "langevin": ({}, ls.EulerMaruyama(dt=0.05), {"temperature": 0.01}),
    "hmc": ({}, ls.HMC(dt=0.1, leapfrog_steps=3), {"temperature": 0.01}),
    "sgd": ({"batch_size": 5}, ls.SGD(lr=0.2, momentum=0.5), {}),
    "single samples": ({"batch_size": 1, "chunk_size": 4}, ls.SGD(lr=0.2), {}),
    "shared": ({"batch_size": 5, "shared_batches": True}, ls.Adam(lr=0.02), {}),
    "replacement": ({"batch_size": 6, "sampling": "replacement", "augment": noisy}, ls.SGD(lr=0.2), {}),
    "library": ({"batch_size": 5}, ls.Optimizer("RMSprop", lr=0.01), {}),
    "decay": ({"batch_size": 4, "weight_decay": 0.1, "chunk_size": 3}, ls.SGLD(lr=0.05), {"temperature": 0.01}),
}


def trajectories(part, group, kind):
    """Positions and energies of chains, 12 steps: more than two epochs of the minibatches."""
    found = {}
    record = ls.Record(every=3, observables=["position", "energy", "batch_energy"])
    for name, (settings, integrator, options) in RUNS.items():
        loss = loss_on(part, group, kind, **settings)
        run = ls.simulate(loss, integrator, steps=12, chains=3, seed=5, record=record, **options)
        found |= {f"{name} {what}": run[what].values for what in ("position", "energy", "batch_energy")}
    minimum = ls.minimize(loss_on(part, group, kind, weight_decay=0.1), method="lbfgs", steps=20)
    return found | {"minimum": minimum.position.values}


def refusals(rank):
    """What is said on a rank where the ranks do not fit together, or ask for what is not there."""
    loss = loss_on(PARTS[rank], "world")
    other = architectures.mlp([5, 6 + rank, 3])
    norm = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))
    of_module = ls.Optimizer("SGD", lr=0.1, of="module")
    single = ls.EulerMaruyama(dt=0.1)
    calls = {
        "shapes": lambda: loss_on(PARTS[rank], "world", module=other),
        "weights": lambda: loss_on(PARTS[rank], "world", module=network("plain", seed=rank)),
        "settings": lambda: loss_on(PARTS[rank], "world", weight_decay=0.1 * rank),
        "inputs": lambda: NetworkLoss(network("plain"), draws(4, 5).to((torch.float32, torch.float64)[rank]),
                                      torch.zeros(4, dtype=torch.int64), process_group="world"),
        "batch": lambda: loss_on(PARTS[rank], "world", module=norm, batchnorm="batch"),
        "reestimate": lambda: loss_on(PARTS[rank], "world", module=norm, batchnorm="reestimate"),
        "positions": lambda: loss.energy(loss.position() + 1e-9 * rank),
        "vectors": lambda: loss.hvp(loss.position(), torch.full((loss.dim,), 1.0 + rank)),
        "seeds": lambda: ls.simulate(loss, single, temperature=0.1, steps=4, seed=rank),
        "compiled": lambda: ls.simulate(loss, single, steps=1, backend="compiled"),
        "hooks": lambda: ls.simulate(loss, of_module, steps=1),
        "scores": lambda: probes.curvature.score_singular_values(loss, loss.position()),
        "nonsense": lambda: loss_on(PARTS[rank], "all of them"),
    }  # fmt: skip
    return {name: refusal(call) for name, call in calls.items()}


def refusal(call):
    try:
        call()
    except ConfigError as error:
        return str(error)
    return ""


def worker(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for kind in KINDS:
        loss = loss_on(PARTS[rank], distributed.group.WORLD, kind)
        found = derivatives(loss) | trajectories(PARTS[rank], "world", kind)
        found |= {f"alone {name}": value for name, value in derivatives(loss_on(PARTS[rank], None, kind)).items()}
        np.savez(f"{folder}/{kind}-{rank}.npz", **found)
    run = ls.simulate(loss_on(PARTS[rank], "world", batch_size=5), ls.SGD(lr=0.1), steps=1)
    frozen = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))
    frozen.load_state_dict({name: torch.full_like(value, 0.5) for name, value in frozen.state_dict().items()})
    words = {
        "refusals": refusals(rank),
        "spec": run.attrs["spec"],
        "backend": run.attrs["backend"],
        "graph": loss.energy(loss.position().requires_grad_(True)).requires_grad,
        "frozen": float(loss_on(PARTS[rank], "world", module=frozen, batchnorm="frozen").energy(torch.ones(69))),
    }
    words["script"] = output_of_the_guide(folder)
    words["destroyed"] = [refusal(lambda: loss.energy(loss.position())), loss.spec()["process_group"]]
    with open(f"{folder}/words-{rank}.json", "w", encoding="utf-8") as file:
        json.dump(words, file)


def output_of_the_guide(folder):
    """The script in the guide, run by this process in the group that it has; its last line ends the group."""
    (script,) = (block.text for block in blocks(GUIDE) if block.kind == "python")
    opening = [line for line in script.splitlines() if "init_process_group" in line]
    assert len(opening) == 1
    os.chdir(folder)
    return output(script.replace(opening[0], ""), "many_devices.md, line 0", {})


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """Arrays by kind and rank, and words by rank."""
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(worker, args=(str(folder),), nprocs=2)
    arrays = {(kind, rank): dict(np.load(folder / f"{kind}-{rank}.npz")) for kind in KINDS for rank in (0, 1)}
    return arrays, [json.loads((folder / f"words-{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)]


@pytest.fixture(scope="module")
def one_process():
    everything = slice(0, SAMPLES)
    return {kind: derivatives(loss_on(everything, kind=kind)) | trajectories(everything, None, kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_give_the_result_of_one_process(two_ranks, one_process, kind):
    for name, expected in one_process[kind].items():
        for rank in (0, 1):
            found = two_ranks[0][kind, rank][name]
            np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-11, err_msg=f"{name} on rank {rank}")


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_agree_to_the_bit(two_ranks, kind):
    first, second = (two_ranks[0][kind, rank] for rank in (0, 1))
    different = [
        name for name in first if not name.startswith("alone") and first[name].tobytes() != second[name].tobytes()
    ]
    assert different == []


@pytest.mark.parametrize("kind", KINDS)
def test_losses_without_a_group_differ(two_ranks, one_process, kind):
    """Control: the same comparison fails for each rank by itself, and for the mean of ranks as if they were equal."""
    for name in ("energy", "gradient", "hvp", "hessian", "eigenvalues", "trace", "fisher_trace model", "gauss_newton"):
        expected = one_process[kind][name]
        alone = [two_ranks[0][kind, rank][f"alone {name}"] for rank in (0, 1)]
        for wrong in (*alone, sum(alone) / 2):
            assert not np.allclose(wrong, expected, rtol=1e-4), name


def test_a_run_says_that_it_had_a_group(two_ranks):
    specs = [json.loads(words["spec"]) for words in two_ranks[1]]
    assert specs[0] == specs[1]
    potential = specs[0]["potential"]
    assert potential["process_group"] == {"ranks": 2}
    assert potential["data"]["samples"] == [FIRST, SAMPLES - FIRST]
    assert [part["samples"] for part in potential["data"]["parts"]] == [FIRST, SAMPLES - FIRST]
    assert [words["backend"] for words in two_ranks[1]] == ["batched", "batched"]


def test_energies_over_ranks_carry_no_graph(two_ranks):
    """Backward through them would be the derivative of one rank's part."""
    assert [words["graph"] for words in two_ranks[1]] == [False, False]


def test_frozen_statistics_work_over_ranks(two_ranks):
    frozen = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))
    frozen.load_state_dict({name: torch.full_like(value, 0.5) for name, value in frozen.state_dict().items()})
    expected = float(loss_on(slice(0, SAMPLES), module=frozen, batchnorm="frozen").energy(torch.ones(69)))
    assert [words["frozen"] for words in two_ranks[1]] == pytest.approx([expected] * 2, rel=1e-12)


REFUSED = {
    "shapes": ["parameter 0.bias is [6] on rank 0 and [7] on rank 1"],
    "weights": ["module with its weights"],
    "settings": ["weight_decay is 0.0 on rank 0 and 0.1 on rank 1"],
    "inputs": ["inputs", "torch.float32", "torch.float64"],
    "batch": ['batchnorm="batch"', "frozen"],
    "reestimate": ['batchnorm="reestimate"', "frozen"],
    "positions": ["different positions", "seed"],
    "vectors": ["different vectors"],
    "seeds": ["different positions", "seed"],
    "compiled": ["compiled", "ranks of a process group"],
    "hooks": ["sums", 'of="parameters"'],
    "scores": ["one process", "fisher_trace"],
    "nonsense": ["ProcessGroup", "'all of them'"],
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_together_is_refused_on_every_rank(two_ranks, name):
    for words in two_ranks[1]:
        for expected in REFUSED[name]:
            assert expected in words["refusals"][name]


def test_the_script_of_the_guide_runs(two_ranks):
    first, second = (words["script"] for words in two_ranks[1])
    assert first.startswith("301 samples on 2 ranks: largest curvature ")
    assert second == ""


def test_a_destroyed_group_is_held_by_no_loss(two_ranks):
    """Held, its threads may let go of a tensor while the interpreter ends, which aborts the process."""
    for words in two_ranks[1]:
        said, group = words["destroyed"]
        assert "has been destroyed" in said
        assert group == {"ranks": 2}


def test_a_group_needs_torch_distributed():
    with pytest.raises(ConfigError, match="torchrun"):
        loss_on(slice(0, SAMPLES), "world")


def test_one_process_has_one_shard():
    alone = Shards((5,))
    values = draws(2, 5)
    assert (alone.samples, alone.own) == (5, slice(0, 5))
    assert alone.sum(values) is values
    assert alone.mean(5, values) == (values,)
    assert alone.gathered(values, 1) is values
    alone.check_same("values", values)


def test_shards_number_their_samples_in_the_order_of_ranks():
    second = Shards((3, 4, 2), rank=1)
    assert (second.samples, second.own) == (9, slice(3, 7))
    rows = second.members(torch.tensor([[0, 3, 6, 8], [7, 2, 1, 0], [5, 4, 3, 5]]))
    assert [row.tolist() for row in rows] == [[0, 3], [], [2, 1, 0, 2]]
