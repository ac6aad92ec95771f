"""Curvature as ratios to peers measured in the same process, in seconds of one core. Run with `make bench`."""

from __future__ import annotations

import importlib
import time
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from landscape import potentials
from landscape.probes import curvature
from landscape.probes.curvature.linear import as_linear, sign_probes

REPEATS = 3


@pytest.fixture(autouse=True)
def _one_core():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def seconds(**functions: Callable[[], object]) -> dict[str, float]:
    """Processor time of each function: best of several, taken in turns so that a slow spell hits all alike."""
    best = dict.fromkeys(functions, np.inf)
    for function in functions.values():
        function()
    for _ in range(REPEATS):
        for name, function in functions.items():
            began = time.process_time()
            function()
            best[name] = min(best[name], time.process_time() - began)
    return best


def report(title: str, found: dict[str, float], unit: str) -> None:
    print(f"\n{title}")
    for name, value in found.items():
        print(f"  {name:<34} {1e3 * value:10.1f} ms   {value / found[unit]:7.2f} x {unit}")


def small_network() -> potentials.NetworkLoss:
    module = potentials.architectures.mlp((10, 20, 20, 10, 3))
    return potentials.NetworkLoss(module, potentials.datasets.random_labels(), dtype=torch.float64)


def residual_network(samples: int = 64) -> potentials.NetworkLoss:
    """ResNet-20 after a little training on images with a class-dependent mean."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (samples,), generator=generator)
    means = torch.randn(10, 3, 1, 1, generator=generator)
    images = means[labels] + 0.5 * torch.randn(samples, 3, 32, 32, generator=generator)
    torch.manual_seed(0)
    module = potentials.architectures.resnet_cifar(20)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    for _ in range(10):
        optimiser.zero_grad()
        functional.cross_entropy(module(images), labels).backward()
        optimiser.step()
    return potentials.NetworkLoss(module, images, labels, batchnorm="frozen")


def early_network(samples: int = 64) -> potentials.NetworkLoss:
    """ResNet-20 with group normalisation early in training on scikit-learn's digits, enlarged to 32 x 32."""
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    grey = torch.tensor(digits.images[:samples, None] / 8 - 1, dtype=torch.float32)
    images = functional.interpolate(grey, size=(32, 32), mode="bilinear").repeat(1, 3, 1, 1)
    labels = torch.tensor(digits.target[:samples])
    module = potentials.architectures.resnet_cifar(20, norm="group")
    optimiser = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    for _ in range(30):
        optimiser.zero_grad()
        functional.cross_entropy(module(images), labels).backward()
        optimiser.step()
    return potentials.NetworkLoss(module, images, labels)


def plain(loss: potentials.NetworkLoss) -> tuple[Callable[..., torch.Tensor], list[torch.Tensor]]:
    """Mean loss as a function of a list of parameters, as one would write it."""
    module = loss.module_at(loss.position()).eval().to(loss.dtype)
    names = [name for name, _ in module.named_parameters()]
    parameters = [p.detach().clone().requires_grad_(True) for p in module.parameters()]

    def value(*leaves: torch.Tensor) -> torch.Tensor:
        outputs = torch.func.functional_call(module, dict(zip(names, leaves, strict=True)), (loss.inputs,))
        return functional.cross_entropy(outputs, loss.targets)

    return value, parameters


def gradient(loss: potentials.NetworkLoss) -> Callable[[], object]:
    value, parameters = plain(loss)
    return lambda: torch.autograd.grad(value(*parameters), parameters)


def curvlinops_hessian(loss: potentials.NetworkLoss):
    """The same Hessian by curvlinops, or None where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from curvlinops import HessianLinearOperator
    except ImportError:
        return None
    module = loss.module_at(loss.position()).eval().to(loss.dtype)
    data = [(loss.inputs, loss.targets)]
    parameters = list(module.parameters())
    return HessianLinearOperator(module, torch.nn.CrossEntropyLoss(), parameters, data, check_deterministic=False)


@pytest.mark.filterwarnings("ignore")
def test_spectrum_of_the_small_network():
    loss = small_network()
    at = loss.position()
    value, parameters = plain(loss)
    sizes = [p.numel() for p in parameters]
    matrix = loss.hessian(at)

    def flat(vector: torch.Tensor) -> torch.Tensor:
        parts = [part.view(p.shape) for part, p in zip(vector.split(sizes), parameters, strict=True)]
        return value(*parts)

    functions: dict[str, Callable[[], object]] = {
        "eigenvalues": lambda: curvature.eigenvalues(loss, at),
        "its Hessian": lambda: loss.hessian(at),
        "eigvalsh": lambda: torch.linalg.eigvalsh(matrix),
        "torch.func.hessian": lambda: torch.func.hessian(flat)(at),
    }
    peer = curvlinops_hessian(loss)
    if peer is not None:
        eye = torch.eye(loss.dim, dtype=torch.float64)
        np.testing.assert_allclose(peer @ eye, loss.hessian(at), atol=1e-10)
        functions["curvlinops"] = lambda: peer @ eye
    found = seconds(**functions)
    report("Hessian of MLP 10-20-20-10-3 (883 weights), 300 points, float64", found, "torch.func.hessian")
    assert found["eigenvalues"] < 0.3 * found["torch.func.hessian"]


@pytest.mark.filterwarnings("ignore")
def test_products_of_a_residual_network():
    loss = residual_network()
    at = loss.position()
    vector = torch.randn(loss.dim)
    operator = curvature.HessianOperator(loss, at)
    value, parameters = plain(loss)
    along = [
        part.view(p.shape) for part, p in zip(vector.split([p.numel() for p in parameters]), parameters, strict=True)
    ]

    def forward_over_reverse() -> object:
        slopes = torch.func.grad(value, argnums=tuple(range(len(parameters))))
        return torch.func.jvp(slopes, tuple(p.detach() for p in parameters), tuple(along))

    functions: dict[str, Callable[[], object]] = {
        "gradient": gradient(loss),
        "product, graph kept": lambda: operator @ vector,
        "product, fresh": lambda: curvature.HessianOperator(loss, at) @ vector,
        "torch.func, forward over reverse": forward_over_reverse,
    }
    peer = curvlinops_hessian(loss)
    if peer is not None:
        functions["curvlinops"] = lambda: peer @ vector
        torch.testing.assert_close(peer @ vector, operator @ vector, rtol=1e-2, atol=1e-3)
    report("Hessian-vector product, ResNet-20, 64 images", seconds(**functions), "gradient")


@pytest.mark.filterwarnings("ignore")
def test_largest_eigenvalue_in_products(monkeypatch):
    loss = early_network()
    at = loss.position()
    truth = float(curvature.largest_eigenvalue(loss, at, rtol=1e-5, seed=9).largest)
    ours = curvature.largest_eigenvalue(loss, at)
    power = curvature.largest_eigenvalue(loss, at, method="power", products=100)
    rows = {
        "Lanczos": (int(ours.products), float(ours.largest)),
        "power iteration": (int(power.products), float(power.largest)),
    }
    matrix = curvature.HessianOperator(loss, at).to_scipy()
    multiply, calls = counted(matrix.matvec)
    operator = LinearOperator(matrix.shape, matvec=multiply, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(loss.dim)
    found = eigsh(operator, k=1, tol=1e-3, which="LA", v0=start, return_eigenvectors=False)
    rows["eigsh"] = (calls[0], float(found[0]))
    try:
        peer = importlib.import_module("pyhessian.hessian")  # the package hides its module behind a class
    except ImportError:
        pass
    else:
        products, calls = counted(peer.hessian_vector_product)
        monkeypatch.setattr(peer, "hessian_vector_product", products)
        module = loss.module_at(at).eval()
        theirs = peer.hessian(module, torch.nn.CrossEntropyLoss(), data=(loss.inputs, loss.targets), cuda=False)
        torch.manual_seed(0)
        value = theirs.eigenvalues(maxIter=100)[0][0]
        rows["PyHessian"] = (calls[0], float(value))
    print(f"\nlargest eigenvalue of ResNet-20 early in training, 64 digits: {truth:.6g}")
    for name, (count, value) in rows.items():
        print(f"  {name:<26} products {count:>5}   relative error {value / truth - 1:+.1e}")
    print(f"  smallest, same products: {float(ours.smallest):.4g} +- {float(ours.smallest_residual):.2g}")
    assert int(ours.products) <= 15
    assert abs(float(ours.largest) / truth - 1) < 1e-3


def counted(function: Callable[..., object]) -> tuple[Callable[..., object], list[int]]:
    """The same function, and a list whose one entry is how often it was called."""
    calls = [0]

    def counting(*arguments: object) -> object:
        calls[0] += 1
        return function(*arguments)

    return counting, calls


def test_exact_fisher_trace_in_gradients():
    loss = residual_network()
    at = loss.position()
    found = seconds(
        gradient=gradient(loss),
        **{
            "exact Fisher trace": lambda: curvature.fisher_trace(loss, at, labels="model"),
            "Hutchinson, 30 probes": lambda: curvature.trace(loss, at, method="hutchinson"),
        },
    )
    report("traces, ResNet-20, 64 images, 10 classes", found, "gradient")
    assert found["exact Fisher trace"] < 0.3 * found["Hutchinson, 30 probes"]


def test_gradient_norms_of_single_samples():
    """The empirical Fisher trace is their mean square."""
    loss = residual_network()
    at, module = loss.position(), loss.private_module
    fixed = dict(loss.statistics_at(at))
    weights = {name: value.detach() for name, value in loss.layout.unflatten(at.detach()).items()}

    def one(weights: dict[str, torch.Tensor], image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(functional_call(module, {**weights, **fixed}, image[None]), label[None])

    def squares() -> torch.Tensor:
        found = vmap(grad(one), in_dims=(None, 0, 0))(weights, loss.inputs, loss.targets)
        return sum(value.flatten(1).square().sum(1) for value in found.values())

    ours = curvature.fisher_trace(loss, at, labels="empirical").fisher_trace.item()
    assert abs(ours / float(squares().mean()) - 1) < 1e-4
    found = seconds(
        gradient=gradient(loss),
        **{
            "torch.func, vmap(grad)": squares,
            "empirical Fisher trace": lambda: curvature.fisher_trace(loss, at, labels="empirical"),
        },
    )
    report("norms of 64 gradients, ResNet-20", found, "gradient")
    # of which one backward pass in three is there to test the rules on these very samples
    assert found["empirical Fisher trace"] < 1.4 * found["torch.func, vmap(grad)"]


def test_singular_values_of_the_scores():
    loss = residual_network()
    at = loss.position()
    rows = torch.randn(320, loss.dim)
    found = seconds(
        **{
            "320 x 270k scores, float64 Gram": lambda: curvature.score_singular_values(loss, at, examples=32),
            "float64 Gram of given scores": lambda: torch.linalg.eigvalsh(rows.double() @ rows.double().T),
        }
    )
    report("singular values of the score matrix, ResNet-20", found, "float64 Gram of given scores")


def wide_network() -> potentials.NetworkLoss:
    """A perceptron of 837,610 weights with 64 samples: products so cheap that whatever is beside them shows."""
    generator = torch.Generator().manual_seed(0)
    module = potentials.architectures.mlp((784, 600, 600, 10))
    images, labels = torch.randn(64, 784, generator=generator), torch.randint(10, (64,), generator=generator)
    return potentials.NetworkLoss(module, images, labels)


def torchvision_network() -> potentials.NetworkLoss:
    """Torchvision's ResNet-18, 11 million weights, on 64 small images."""
    from torchvision.models import resnet18

    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(64, 3, 32, 32, generator=generator), torch.randint(10, (64,), generator=generator)
    return potentials.NetworkLoss(resnet18(num_classes=10), images, labels, batchnorm="frozen")


@pytest.mark.parametrize(("make", "products", "lanczos"), [(wide_network, 30, 1.8), (torchvision_network, 12, 1.3)])
def test_estimators_cost_little_more_than_their_products(make, products, lanczos):
    """Beside bare products by double backward in plain torch, with vectors that are there already.

    A product of the perceptron takes as long as 20 passes over its weights, of which Lanczos makes a dozen by itself.
    """
    loss = make()
    at = loss.position()
    value, parameters = plain(loss)
    vectors = [torch.ones_like(p) for p in parameters]
    linear = as_linear(curvature.HessianOperator(loss, at))

    def bare(count: int) -> object:
        slopes = torch.autograd.grad(value(*parameters), parameters, create_graph=True)
        return [torch.autograd.grad(slopes, parameters, vectors, retain_graph=True) for _ in range(count)][-1]

    def signs() -> None:
        for number in range(products):
            sign_probes(linear, 1, 0, first=number)

    found = seconds(
        **{
            "bare products": lambda: bare(products),
            "vectors of signs": signs,
            "Hutchinson": lambda: curvature.trace(loss, at, method="hutchinson", probes=products),
            "Hutch++": lambda: curvature.trace(loss, at, probes=products),
            "density": lambda: curvature.spectral_density(loss, at, probes=2, steps=products // 2),
        }
    )
    report(f"{products} products, {loss.dim} weights, {loss.samples} samples", found, "bare products")
    ten = seconds(
        **{
            "10 bare products": lambda: bare(10),
            "Lanczos, 10 products": lambda: curvature.largest_eigenvalue(loss, at, rtol=1e-12, products=10),
        }
    )
    report("Lanczos", ten, "10 bare products")
    assert found["vectors of signs"] < 0.1 * found["bare products"]
    for name in ("Hutchinson", "Hutch++", "density"):
        assert found[name] < 1.3 * found["bare products"], name
    assert ten["Lanczos, 10 products"] < lanczos * ten["10 bare products"]


def test_eigenpairs_in_products():
    """Ten of them, beside SciPy's to the same residuals, which looks for no missing ones."""
    loss = early_network()
    at = loss.position()
    ours = curvature.top_eigenpairs(loss, at, 10)
    matrix = curvature.HessianOperator(loss, at).to_scipy()
    multiply, calls = counted(matrix.matvec)
    operator = LinearOperator(matrix.shape, matvec=multiply, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(loss.dim)
    theirs = np.sort(eigsh(operator, k=10, tol=1e-3, which="LA", v0=start, return_eigenvectors=False))[::-1]
    print("\nten eigenpairs of ResNet-20 early in training, 64 digits")
    print(
        f"  top_eigenpairs             products {int(ours.products):>5}   converged {int(ours.converged.sum())} of 10"
    )
    print(f"  eigsh                      products {calls[0]:>5}")
    np.testing.assert_allclose(ours.eigenvalue, theirs, rtol=1e-2)
    assert ours.converged.all()
    assert int(ours.products) < 2 * calls[0]
