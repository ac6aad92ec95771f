"""Other libraries read what comes out and give what goes in; so do the guide's snippets that need one."""

import importlib.util
import pickle
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import resnet18

import landscape as ls
from landscape import potentials, probes
from landscape.errors import ConfigError, ShapeError, StorageError
from landscape.potentials import NetworkLoss, load_weights
from tests.docs.pages import ROOT, blocks, output

GUIDE = ROOT / "docs" / "interoperability.md"


def installed(name):
    return importlib.util.find_spec(name) is not None


def snippets(*words):
    """Those of the guide in which all words stand."""
    return [
        block.text for block in blocks(GUIDE) if block.kind == "python" and all(word in block.text for word in words)
    ]


def played(text, **names):
    """What a snippet leaves, after the imports that the page begins with."""
    names |= {"ls": ls, "potentials": potentials, "probes": probes, "torch": torch}
    output(text, "interoperability.md, line 0", names)
    return names


# -- what comes out ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run():
    spring = potentials.Expression("x**2/2 + y**2", ["x", "y"])
    return ls.simulate(spring, ls.EulerMaruyama(dt=0.1), temperature=1.0, chains=4, steps=2000, seed=1)


@pytest.mark.skipif(not installed("arviz_base"), reason="labelled arrays in arviz_stats need arviz-base")
def test_arviz_reads_a_run(run):
    import arviz_stats

    named = arviz_stats.ess(run, var_names=["energy", "position"])
    recorded = arviz_stats.ess(run.drop_vars(run.drop_dims("draw").data_vars))
    assert set(named.data_vars) == set(recorded.data_vars) == {"energy", "position"}
    assert named.position.sizes == {"coordinate": 2}
    ours = probes.fluctuations.summary(run.energy, discard=0).effective_sample_size.sum()
    assert float(named.energy) == pytest.approx(float(ours), rel=0.3)
    assert float(arviz_stats.rhat(run, var_names=["energy"]).energy) == pytest.approx(1.0, abs=0.02)


def test_pandas_gets_tables(run):
    frame = run.energy.to_dataframe()
    assert list(frame.index.names) == ["chain", "draw"]
    assert {"energy", "time", "step", "temperature"} <= set(frame.columns)
    assert frame.energy.to_numpy().tobytes() == run.energy.values.tobytes()
    assert run.energy.to_pandas().shape == (4, 2000)
    table = probes.fluctuations.summary(run.energy).to_dataframe()
    assert isinstance(table, pd.DataFrame)
    assert {"mean", "mean_stderr"} <= set(table.columns)


def test_plots_draw_on_the_axes_they_are_given(run):
    figure, axes = plt.subplots(1, 3)
    assert probes.fluctuations.plot_energy_trace(run.energy, ax=axes[1]) is axes[1]
    assert [bool(one.lines) for one in axes] == [False, True, False]
    plt.close(figure)


# -- modules and data -------------------------------------------------------------------------------------------------


class Residual(nn.Module):
    """A module that is no Sequential, with weights that are used twice."""

    def __init__(self):
        super().__init__()
        self.first, self.inner, self.last = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        hidden = torch.tanh(self.first(x))
        return self.last(hidden + torch.relu(self.inner(self.inner(hidden))))


def test_a_module_and_a_loader_are_a_loss():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(20, 4, generator=generator), torch.randint(3, (20,), generator=generator)
    module = Residual()
    losses = [
        NetworkLoss(module, x, y),
        NetworkLoss(module, TensorDataset(x, y)),
        NetworkLoss(module, DataLoader(TensorDataset(x, y), batch_size=7, shuffle=True)),
    ]
    expected = float(nn.functional.cross_entropy(module(x), y).detach())
    assert [float(loss.energy(loss.position())) for loss in losses] == pytest.approx([expected] * 3, rel=1e-6)
    run = ls.simulate(losses[2], ls.EulerMaruyama(dt=0.01), temperature=1e-4, steps=5, chains=2)
    assert np.isfinite(run.energy).all()


def group_norm(channels):
    return nn.GroupNorm(8, channels)


def photographs():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(4, 3, 16, 16, generator=generator), torch.randint(10, (4,), generator=generator)


def residual_network(norm, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return resnet18(weights=None, num_classes=10, norm_layer=norm)


def test_a_torchvision_network_is_probed_and_moves():
    network, (images, labels) = residual_network(group_norm), photographs()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    loss = NetworkLoss(network, images, labels)
    at = loss.position()
    with torch.no_grad():
        expected = nn.functional.cross_entropy(network.eval()(images), labels)
    assert float(loss.energy(at)) == pytest.approx(float(expected), rel=1e-5)

    gradient = loss.gradient(at)
    along = 1e-5 * gradient / gradient.norm()  # further on the slope jumps at the kinks of the ReLUs
    slope = (loss.gradient(at + along) - loss.gradient(at - along)) / 2
    product = loss.hvp(at, along)
    assert float((product - slope).norm() / slope.norm()) < 0.05
    top = probes.curvature.largest_eigenvalue(loss, at, rtol=0.1, products=2)
    assert np.isfinite(float(top.largest))

    run = ls.simulate(loss, ls.SGD(lr=1e-3), steps=2)
    assert run.energy.values[0, -1] < float(expected)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(("norm", "settings"), [(group_norm, {}), (nn.BatchNorm2d, {"batchnorm": "frozen"})])
def test_a_part_of_a_torchvision_network_is_probed(norm, settings):
    """What does not require gradients is no coordinate."""
    network = residual_network(norm)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(("layer1.0", "fc")))
    loss = NetworkLoss(network, *photographs(), **settings)
    at = loss.position()
    assert {slot.name.split(".")[0] for slot in loss.layout} == {"layer1", "fc"}
    top = probes.curvature.extreme_eigenvalues(loss, at, rtol=0.01)
    assert bool(top.converged)
    traces = [probes.curvature.trace(loss, at, method=method, probes=12) for method in ("hutch++", "hutchinson")]
    difference = float(traces[0].trace - traces[1].trace)
    assert abs(difference) < 4.5 * np.hypot(*(float(one.trace_stderr) for one in traces))
    assert float(probes.curvature.fisher_trace(loss, at, labels="model").fisher_trace) > 0
    run = ls.simulate(loss, ls.EulerMaruyama(dt=1e-3), temperature=1e-6, chains=2, steps=3)
    assert np.isfinite(run.energy).all()


# -- weights from files -----------------------------------------------------------------------------------------------


def trained(seed=1):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
        return module.train().requires_grad_(True)


def prefixed(prefix, module):
    return {f"{prefix}{name}": value for name, value in module.state_dict().items()}


FILES = {
    "plain": lambda m: m.state_dict(),
    "lightning": lambda m: {
        "epoch": 3, "global_step": 10, "pytorch-lightning_version": "2.4.0", "loops": {"fit_loop": {"state_dict": {}}},
        "state_dict": prefixed("model.", m) | {"criterion.weight": torch.ones(3)},
        "hyper_parameters": {"lr": 0.1}, "optimizer_states": [{"state": {0: torch.ones(2)}, "param_groups": []}],
    },
    "parallel": lambda m: prefixed("module.", m),
    "compiled": lambda m: {"model_state_dict": prefixed("_orig_mod.", m), "loss": 0.5},
    "double": lambda m: {"state_dict": prefixed("model.module.", m)},
    "counters": lambda m: {name: value for name, value in m.state_dict().items() if "num_batches" not in name},
    "half": lambda m: {name: value.half() for name, value in m.state_dict().items()},
}  # fmt: skip


@pytest.mark.parametrize("kind", [*FILES, "safetensors", "legacy"])
def test_a_checkpoint_becomes_a_start(kind, tmp_path):
    source, module = trained(1), trained(2)
    source.get_submodule("1").running_mean.fill_(0.3)
    path = tmp_path / f"{kind}.ckpt"
    if kind == "safetensors":
        safetensors.torch.save_file(prefixed("model.", source), path)
    elif kind == "legacy":
        torch.save(source.state_dict(), path, _use_new_zipfile_serialization=False)
    else:
        torch.save(FILES[kind](source), path)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    loaded = load_weights(module, path)
    for name, value in source.state_dict().items():
        tolerance = 2e-3 if kind == "half" else 0.0
        torch.testing.assert_close(loaded.state_dict()[name], value, rtol=tolerance, atol=tolerance)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())

    x, y = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)), torch.arange(9) % 3
    loss = NetworkLoss(loaded, x, y, batchnorm="frozen")
    torch.testing.assert_close(loss.position(), loss.layout.flatten(loaded))
    expected = nn.functional.cross_entropy(loaded.eval()(x), y).detach()
    assert float(loss.energy(loss.default_start())) == pytest.approx(float(expected), rel=1e-5)
    run = ls.simulate(loss, ls.SGD(lr=0.1), steps=1)
    torch.testing.assert_close(
        torch.tensor(run.last_position.values[0]), loss.position() - 0.1 * loss.gradient(loss.position())
    )


class Tied(nn.Module):
    """Two names for one weight."""

    def __init__(self):
        super().__init__()
        self.into, self.out = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.out.weight = self.into.weight

    def forward(self, x):
        return self.out(torch.tanh(self.into(x)))


def test_one_name_is_enough_for_tied_weights(tmp_path):
    source = Tied()
    safetensors.torch.save_model(source, tmp_path / "tied.safetensors")
    loaded = load_weights(Tied(), tmp_path / "tied.safetensors")
    assert torch.equal(loaded.into.weight, source.into.weight)
    assert loaded.out.weight is loaded.into.weight


class Hostile:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("way", ["torch", "legacy", "pickle"])
def test_a_file_that_would_run_code_is_refused(way, wrapped, tmp_path):
    trap, path = tmp_path / "it-ran", tmp_path / "hostile.pt"
    content = {"state_dict": trained().state_dict(), "callbacks": Hostile(trap)} if wrapped else Hostile(trap)
    if way == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=way == "torch")
    with pytest.raises(StorageError, match=r"hostile\.pt.*code"):
        load_weights(trained(), path)
    assert not trap.exists()
    torch.load(path, weights_only=False) if way != "pickle" else pickle.loads(path.read_bytes())  # noqa: S301
    assert trap.exists(), "control: the trap works"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"weights", b'\x10\0\0\0\0\0\0\0{"a": broken}'])
def test_damaged_files_are_named(content, tmp_path):
    path = tmp_path / "damaged.pt"
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"damaged\.pt"):
        load_weights(trained(), path)


def test_files_that_are_not_there():
    with pytest.raises(StorageError, match=r"nowhere\.pt.*No such file"):
        load_weights(trained(), "nowhere.pt")


def test_weights_of_another_shape_are_named(tmp_path):
    wide = nn.Sequential(nn.Linear(4, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3))
    torch.save(wide.state_dict(), tmp_path / "wide.pt")
    with pytest.raises(ShapeError, match=r"'0\.weight' has shape \(7, 4\).*\(6, 4\)"):
        load_weights(trained(), tmp_path / "wide.pt")


DEEPER = nn.Sequential(*trained().children(), nn.ReLU(), nn.Linear(3, 3))
MISFITS = {
    "deeper": (DEEPER.state_dict(), ["'5.bias'"]),
    "shallower": (nn.Sequential(nn.Linear(4, 6)).state_dict(), ["'1.weight'", "more"]),
    "others": ({"a.weight": torch.ones(2)}, ["'0.weight'", "'a.weight'"]),
    "twice": (prefixed("student.", trained()) | prefixed("teacher.", trained()), ["student.", "teacher."]),
    "no table": ({"epoch": 3}, ["'0.weight'", "no others"]),
    "a list": ([1, 2], ["'0.weight'"]),
}


@pytest.mark.parametrize("name", MISFITS)
def test_names_that_do_not_fit(name, tmp_path):
    content, words = MISFITS[name]
    torch.save(content, tmp_path / "misfit.pt")
    with pytest.raises(ConfigError) as caught:
        load_weights(trained(), tmp_path / "misfit.pt")
    assert all(word in str(caught.value) for word in words), str(caught.value)


# -- other libraries' energies ----------------------------------------------------------------------------------------


def test_jax_is_a_function_in_a_few_lines():
    pytest.importorskip("jax", reason="jax is not installed")
    (text,) = snippets("import jax")
    names = played(text)
    wells, points = names["wells"], np.random.default_rng(0).normal(size=(5, 2))
    exact = potentials.Expression("(x**2 - 1)**2 + (y**2 - 1)**2", ["x", "y"])
    np.testing.assert_allclose(wells.energy(points), exact.energy(points), rtol=1e-12)
    np.testing.assert_allclose(wells.gradient(points), exact.gradient(points), rtol=1e-12)
    np.testing.assert_allclose(wells.hessian(points), exact.hessian(points), rtol=1e-12, atol=1e-12)
    assert names["run"].position.shape == (8, 100, 2)


def pair_energy(position):
    """Lennard-Jones: 4 sum over pairs of r^-12 - r^-6."""
    atoms = position.unflatten(-1, (-1, 3))
    first, second = torch.triu_indices(atoms.shape[-2], atoms.shape[-2], 1)
    sixth = (atoms[..., first, :] - atoms[..., second, :]).square().sum(-1) ** -3
    return 4 * (sixth**2 - sixth).sum(-1)


class Atoms:
    """The methods of an ASE `Atoms` with a calculator, in numpy."""

    def __init__(self, positions):
        self.set_positions(positions)

    def __len__(self):
        return len(self.positions)

    def set_positions(self, positions):
        self.positions = np.array(positions, dtype=float)

    def get_positions(self):
        return self.positions.copy()

    def get_potential_energy(self):
        return float(pair_energy(torch.tensor(self.positions.ravel())))

    @torch.enable_grad()
    def get_forces(self):
        leaf = torch.tensor(self.positions.ravel(), requires_grad=True)
        return -torch.autograd.grad(pair_energy(leaf), leaf)[0].numpy().reshape(-1, 3)


CORNERS = [[0.0, 0.0, 0.0], [1.1, 0.0, 0.0], [0.5, 1.0, 0.0]]


@pytest.mark.parametrize("library", ["none", "ase"])
def test_a_calculator_is_a_function_in_a_few_lines(library):
    if library == "ase":
        pytest.importorskip("ase", reason="ase is not installed")
        (text,) = snippets("from ase")
        atoms = played(text)["atoms"]
    else:
        atoms = Atoms(CORNERS)
    (text,) = snippets("get_forces")
    names = played(text, atoms=atoms)
    cluster = names["cluster"]
    points = np.ravel(CORNERS) + 0.02 * np.random.default_rng(0).normal(size=(4, 9))
    exact = potentials.Function(pair_energy, 9)
    if library == "none":  # that of the library has a cut-off
        np.testing.assert_allclose(cluster.energy(points), exact.energy(points), rtol=1e-12)
        np.testing.assert_allclose(cluster.gradient(points), exact.gradient(points), rtol=1e-12)
        np.testing.assert_allclose(cluster.hessian(points), exact.hessian(points), rtol=1e-5, atol=1e-4)
    assert cluster.energy(points).shape == (4,)
    assert names["run"].energy.shape == (1, 50)
    assert np.isfinite(names["run"].energy).all()
