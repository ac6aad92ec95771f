"""Hessians of networks against central differences of plain torch gradients, layer by layer; refusals by name."""

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrizations

from landscape.errors import ConfigError
from landscape.potentials import NetworkLoss
from landscape.potentials.curvature.products import GaussNewtonProducts, HessianProducts

SAMPLES = 5

# what torch says of itself when it first differentiates in forward mode
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*torch.jit.script.*:FutureWarning", "ignore:.*torch.jit.script.*:DeprecationWarning"
)


class Behind(nn.Module):
    """A layer, or a function, behind a linear one: its inputs depend on weights."""

    def __init__(self, layer, width=6, shape=None):
        super().__init__()
        self.first, self.layer, self.shape = nn.Linear(4, width), layer, shape

    def forward(self, inputs):
        hidden = self.first(inputs)
        outputs = self.layer(hidden if self.shape is None else hidden.unflatten(1, self.shape))
        return outputs[0] if isinstance(outputs, tuple) else outputs


class Bag(nn.Module):
    """Bags of embeddings of whole numbers made from the inputs, four a sample."""

    def __init__(self, *, offsets=False, weighted=False, **options):
        super().__init__()
        self.table, self.read = nn.EmbeddingBag(7, 3, **options), nn.Linear(3, 2)
        self.weights = nn.Parameter(torch.rand(7)) if weighted else None
        self.offsets = offsets

    def forward(self, inputs):
        ids = (inputs.abs() * 1000).long() % 7
        if self.offsets:  # the first bag is empty
            starts = torch.cat([torch.zeros(1, dtype=torch.long), torch.arange(0, ids.numel() - 4, 4)])
            return self.read(self.table(ids.flatten(), starts).tanh())
        weights = None if self.weights is None else self.weights[ids]
        return self.read(self.table(ids, per_sample_weights=weights).tanh())


class Physics(nn.Module):
    """A derivative of a network with respect to its inputs, taken in the forward pass."""

    def __init__(self, how, layer):
        super().__init__()
        self.net, self.how = nn.Sequential(nn.Linear(4, 4), layer, nn.Tanh(), nn.Linear(4, 1)), how

    def forward(self, inputs):
        def one(x):
            return self.net(x[None])[0, 0]

        if self.how == "torch.func.grad":
            return torch.func.vmap(torch.func.grad(one))(inputs)
        if self.how == "torch.func.hessian":
            return torch.func.vmap(lambda x: torch.func.hessian(one)(x).trace())(inputs)[:, None]
        if self.how == "torch.func.jvp":
            return torch.func.jvp(self.net, (inputs,), (torch.ones_like(inputs),))[1]
        with torch.enable_grad():
            inputs = inputs.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(self.net(inputs).sum(), inputs, create_graph=True)
            if self.how == "Laplacian":
                rows = [torch.autograd.grad(one.sum(), inputs, create_graph=True)[0] for one in slope.unbind(1)]
                return sum(row[:, i] for i, row in enumerate(rows))[:, None]
        return slope


class Convolved(nn.Module):
    """Slopes of a convolutional network with respect to its inputs."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(2, 1))

    def forward(self, inputs):
        def one(x):
            return self.net(x.view(1, 1, 2, 2).tanh())[0, 0]

        return torch.func.vmap(torch.func.grad(one))(inputs)


class PlainLayerNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(4)), nn.Parameter(torch.zeros(4))

    def forward(self, inputs):
        centred = inputs - inputs.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * self.weight + self.bias


class Graph(nn.Module):
    """A graph convolution with a sparse adjacency matrix of the features."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, inputs):
        adjacency = torch.eye(4, dtype=inputs.dtype).roll(1, 0).to_sparse()
        return self.second(torch.sparse.mm(adjacency, self.first(inputs).tanh().T).T)


class Experts(nn.Module):
    """Every sample goes to the expert that a gate prefers."""

    def __init__(self):
        super().__init__()
        self.gate, self.experts = nn.Linear(4, 2), nn.ModuleList(nn.Linear(4, 2) for _ in range(2))

    def forward(self, inputs):
        shares = self.gate(inputs).softmax(1)
        outputs = inputs.new_zeros(len(inputs), 2)
        for number, expert in enumerate(self.experts):
            rows = (shares.argmax(1) == number).nonzero()[:, 0]
            outputs = outputs.index_add(0, rows, expert(inputs[rows]).tanh() * shares[rows, number, None])
        return outputs


class Cube(torch.autograd.Function):
    """x^3 with a backward that is written for one vector at a time, and rightly differentiated."""

    @staticmethod
    def forward(ctx, inputs):
        ctx.save_for_backward(inputs)
        return inputs**3

    @staticmethod
    def backward(ctx, slope):
        (inputs,) = ctx.saved_tensors
        if float(slope.detach().abs().sum()) < 0:  # what vmap cannot ask
            raise AssertionError
        return slope * 3 * inputs**2


class Sparsely(nn.Module):
    """Parameters of no elements, of no axes, and one that is not used."""

    def __init__(self):
        super().__init__()
        self.empty, self.gate = nn.Parameter(torch.zeros(0, 3)), nn.Parameter(torch.tensor(0.3))
        self.idle, self.layer = nn.Parameter(torch.ones(2)), nn.Linear(4, 2)

    def forward(self, inputs):
        return torch.tanh(self.gate * self.layer(inputs)) + self.empty.sum()


def recurrent(kind, **options):
    return lambda: Behind(getattr(nn, kind)(3, 3, batch_first=True, **options), 6, (2, 3))


def through(function, width=6, shape=None):
    return lambda: Behind(function, width, shape)


def normed(layer, **options):
    return nn.Sequential(parametrizations.weight_norm(layer, **options), nn.Tanh())


def encoder():
    layer = nn.TransformerEncoderLayer(4, 2, 4, dropout=0.0, batch_first=True, activation="gelu")
    return Behind(layer, 8, (2, 4))


def attention(h):
    return functional.scaled_dot_product_attention(*h.unbind(1), is_causal=True)


def sampled(h):
    """The values of a small image at places that depend on weights."""
    image, places = h[:, :3].unsqueeze(1), h[:, 3:].flatten(1).view(-1, 1, 3, 2).tanh()
    return functional.grid_sample(image, places, mode="bicubic", align_corners=False)


LAYERS = {
    # torch's own second derivatives of these are wrong, or missing
    "weight norm": lambda: normed(nn.Linear(4, 5)),
    "weight norm of columns": lambda: normed(nn.Linear(4, 5), dim=1),
    "weight norm of the whole": lambda: normed(nn.Linear(4, 5), dim=None),
    "weight norm of kernels": lambda: nn.Sequential(nn.Unflatten(1, (2, 2)), normed(nn.ConvTranspose1d(2, 3, 2))),
    "weight norm of a vector": through(parametrizations.weight_norm(nn.LayerNorm(6))),
    "hard sigmoid": through(nn.Hardsigmoid()),
    "hard sigmoid in place": through(nn.Hardsigmoid(inplace=True)),
    "bag, sum": lambda: Bag(mode="sum"),
    "bag, weighted sum": lambda: Bag(mode="sum", weighted=True),
    "bag, mean without padding": lambda: Bag(mode="mean", padding_idx=2),
    "bag, maximum": lambda: Bag(mode="max"),
    "bag, offsets": lambda: Bag(mode="mean", offsets=True),
    "bag, offsets, maximum": lambda: Bag(mode="max", offsets=True),
    "attention": through(attention, 24, (3, 1, 2, 4)),
    "transformer": encoder,
    # the others are torch's own
    "layer norm": through(nn.LayerNorm(6)),
    "layer norm without bias": through(nn.LayerNorm(6, bias=False)),
    "layer norm of two axes": through(nn.LayerNorm((2, 3), elementwise_affine=False), 12, (2, 2, 3)),
    "group norm": through(nn.GroupNorm(2, 4), 8, (4, 2)),
    "root mean square norm": through(nn.RMSNorm(6)),
    "instance norm": through(nn.InstanceNorm1d(2, affine=True), 6, (2, 3)),
    "spectral norm": lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(4, 3)), nn.Tanh()),
    "orthogonal": lambda: nn.Sequential(parametrizations.orthogonal(nn.Linear(4, 3)), nn.Tanh()),
    "normalised": through(functional.normalize),
    "cosines": through(lambda h: functional.cosine_similarity(h[:, :3], h[:, 3:])[:, None]),
    "distances": through(lambda h: torch.cdist(h[:, :2], h[:, 2:]), 12, (4, 3)),
    "log-sum-exp": through(lambda h: h.logsumexp(1, keepdim=True)),
    "hard swish": through(nn.Hardswish()),
    "GELU": through(nn.GELU("tanh")),
    "CELU in place": through(nn.CELU(inplace=True)),
    "SiLU in place": through(nn.SiLU(inplace=True)),
    "ReLU in place": through(nn.Sequential(nn.Softplus(), nn.LayerNorm(6), nn.ReLU(inplace=True))),
    "PReLU": through(nn.PReLU(3), 6, (3, 2)),
    "bilinear": lambda: Behind(lambda h: h[:, :3] * h[:, 3:]),
    "grid sample": through(sampled, 15, (5, 3)),
    "interpolation": through(lambda h: functional.interpolate(h.tanh(), scale_factor=2, mode="bicubic"), 9, (1, 3, 3)),
    "pools": through(nn.Sequential(nn.MaxPool2d(2), nn.Tanh(), nn.AdaptiveAvgPool2d(1)), 16, (1, 4, 4)),
    "power pool": through(lambda h: functional.lp_pool1d(h.exp(), 3, 2), 8, (2, 4)),
    "unfold": through(lambda h: functional.unfold(h.sin(), 2), 9, (1, 3, 3)),
    "GRU": recurrent("GRU"),
    "LSTM": recurrent("LSTM", bidirectional=True),
    "RNN": recurrent("RNN"),
    "experts": Experts,
    "sparse adjacency": Graph,
    "backward for one vector": through(Cube.apply),
    "empty, scalar and idle parameters": Sparsely,
    # derivatives in the forward pass: of normalisation a third derivative, which torch gets wrong or refuses
    "slope by autograd, layer norm": lambda: Physics("autograd", nn.LayerNorm(4)),
    "slope by torch.func, layer norm": lambda: Physics("torch.func.grad", nn.LayerNorm(4)),
    "slope in forward mode": lambda: Physics("torch.func.jvp", nn.Softplus()),
    "slope, weight norm": lambda: Physics("autograd", parametrizations.weight_norm(nn.Linear(4, 4))),
    "slope, instance norm": lambda: Physics(
        "autograd", nn.Sequential(nn.Unflatten(1, (2, 2)), nn.InstanceNorm1d(2), nn.Flatten())
    ),
    "slope, convolution and ReLU": Convolved,
    "Laplacian": lambda: Physics("Laplacian", nn.Softplus()),
    "Laplacian by torch.func": lambda: Physics("torch.func.hessian", nn.Softplus()),
}


def losses(outputs, targets):
    """Smooth, and of another value for every output."""
    flat = outputs.reshape(len(outputs), -1)
    return (flat * torch.linspace(-1, 1, flat.shape[1], dtype=flat.dtype)).sum(1) + flat.square().mean(1)


def network(make):
    generator = torch.Generator().manual_seed(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = make().double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    inputs = torch.randn(SAMPLES, 4, generator=generator, dtype=torch.float64)
    frozen = any(isinstance(layer, nn.BatchNorm2d) for layer in module.modules())
    statistics = any(isinstance(layer, nn.InstanceNorm1d) for layer in module.modules())
    policy = "frozen" if frozen or statistics else None
    return module, NetworkLoss(module, inputs, torch.zeros(SAMPLES), loss=losses, batchnorm=policy)


def plain_gradient(module, inputs, vector, sizes):
    """By torch alone, with attention in its plain form."""
    parts = [part.view(size) for part, size in zip(vector.split([s.numel() for s in sizes]), sizes, strict=True)]
    leaves = [part.clone().requires_grad_(True) for part in parts]
    names = [name for name, _ in module.named_parameters()]
    with sdpa_kernel(SDPBackend.MATH):
        outputs = functional_call(module, dict(zip(names, leaves, strict=True)), (inputs,))
    mean = losses(outputs, None).mean()
    slopes = torch.autograd.grad(mean, leaves, allow_unused=True, materialize_grads=True)
    return torch.cat([slope.flatten() for slope in slopes])


def differences(gradient, at, along, step=2e-4):
    """H v to fourth order in the step."""
    near, far = ((gradient(at + h * along) - gradient(at - h * along)) / (2 * h) for h in (step / 2, step))
    return (4 * near - far) / 3


@pytest.mark.parametrize("kind", LAYERS)
def test_products_are_differences_of_gradients(kind):
    module, loss = network(LAYERS[kind])
    at = loss.position()
    sizes = [parameter.shape for parameter in module.parameters()]
    vectors = torch.randn(3, loss.dim, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    products = HessianProducts(loss, at)
    found = products(vectors)
    truth = torch.stack([differences(lambda v: plain_gradient(module, loss.inputs, v, sizes), at, v) for v in vectors])
    scale = float(truth.norm())
    assert scale > 1e-3
    assert float((found - truth).norm()) < 1e-6 * scale
    torch.testing.assert_close(products(vectors[:1]), found[:1], rtol=1e-9, atol=1e-9 * scale)
    blind = vectors @ found.T
    torch.testing.assert_close(blind, blind.T, rtol=1e-9, atol=1e-9 * scale)
    plain = plain_gradient(module, loss.inputs, at, sizes)
    torch.testing.assert_close(loss.gradient(at), plain, rtol=1e-10, atol=1e-12)


def test_torch_alone_is_wrong_or_without_an_answer():
    """The control: were torch mended, what is taken apart here could be left whole."""

    def by_torch(kind):
        module, loss = network(LAYERS[kind])
        parameters = list(module.parameters())
        mean = losses(module(loss.inputs), None).mean()
        slopes = torch.autograd.grad(mean, parameters, create_graph=True, materialize_grads=True)
        flat = torch.cat([slope.flatten() for slope in slopes if slope.requires_grad])
        rows = [torch.autograd.grad(one, parameters, retain_graph=True, materialize_grads=True) for one in flat]
        return torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])

    for kind in ("weight norm", "slope by autograd, layer norm"):
        matrix = by_torch(kind)
        matrix = matrix[:, : len(matrix)]  # the last weight, a bias, is not in the slope
        assert float((matrix - matrix.T).norm()) > 0.05 * float(matrix.norm())
    for kind in ("hard sigmoid", "bag, sum"):
        with pytest.raises(RuntimeError, match="derivative"):
            by_torch(kind)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("bag", [False, True])
def test_sparse_tables_are_dense_here(sparse, bag):
    def make():
        table = nn.EmbeddingBag(7, 3, sparse=sparse, mode="mean") if bag else nn.Embedding(7, 3, sparse=sparse)
        return nn.Sequential(table, nn.Tanh(), nn.Linear(3, 2))

    torch.manual_seed(0)
    ids = torch.arange(10).view(5, 2) % 7 if bag else torch.arange(5)
    module = make()
    loss = NetworkLoss(module, ids, torch.zeros(5), loss=losses, dtype=torch.float64)
    at = loss.position()
    along = torch.randn(loss.dim, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    truth = differences(loss.gradient, at, along)
    torch.testing.assert_close(HessianProducts(loss, at)(along[None])[0], truth, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("how", ["Laplacian", "torch.func.hessian", "torch.func.jvp"])
def test_gradients_through_derivatives_of_normalisation(how):
    """A gradient of a Laplacian is a third derivative, which torch gets wrong for its layer norm."""
    loss = network(lambda: Physics(how, nn.LayerNorm(4)))[1]
    plain = network(lambda: Physics(how, PlainLayerNorm()))[1]
    at = loss.position()
    truth = plain.gradient(at)
    torch.testing.assert_close(loss.gradient(at), truth, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(loss.gradient(at.expand(3, -1)), truth.expand(3, -1), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(HessianProducts(loss, at).matrix(), HessianProducts(plain, at).matrix())


# -- what cannot be put right is refused by name -----------------------------------------------------------------------


class Transcript(nn.Module):
    """A loss of alignments within the module, whose backward torch does not differentiate."""

    def forward(self, hidden):
        found = hidden.log_softmax(2).transpose(0, 1)
        count = torch.full((len(hidden),), 1)
        return functional.ctc_loss(found, count[:, None], 2 * count, count, reduction="none")[:, None]


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs):
        ctx.save_for_backward(inputs)
        return inputs.sin()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, slope):
        return slope * ctx.saved_tensors[0].cos()


class Wave(nn.Module):
    def forward(self, inputs):
        return Once.apply(inputs)


@pytest.mark.parametrize(
    ("layer", "shape", "said"),
    [
        (Transcript, (2, 3), r"ctc_loss.*'layer' \(Transcript\)"),
        (Wave, None, r"once_differentiable.*'layer' \(Wave\)"),
    ],
)
def test_a_missing_derivative_is_named(layer, shape, said):
    loss = network(lambda: Behind(layer(), 6, shape))[1]
    at = loss.position()
    assert loss.gradient(at).isfinite().all()
    with pytest.raises(ConfigError, match=said):
        HessianProducts(loss, at)(torch.ones(2, loss.dim, dtype=torch.float64))


class Constant(torch.autograd.Function):
    """A backward that takes the slope of the function for a constant: right once, a symmetric wrong Hessian twice."""

    @staticmethod
    def forward(ctx, inputs):
        ctx.save_for_backward(inputs)
        return inputs.sin()

    @staticmethod
    def backward(ctx, slope):
        return slope * ctx.saved_tensors[0].detach().cos()


class Detached(nn.Module):
    def forward(self, inputs):
        return Constant.apply(inputs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_wrong_derivative_of_a_custom_function_is_named(dtype):
    loss = network(lambda: Behind(Detached()))[1].converted(dtype)
    at = loss.position()
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"Constant.*'layer' \(Detached\)"):
            HessianProducts(loss, at)
    assert GaussNewtonProducts(loss, at).matrix().isfinite().all()  # it needs first derivatives of the function


def test_a_missing_derivative_of_the_loss_is_named():
    def margin(outputs, targets):
        return functional.multi_margin_loss(outputs, targets, p=2, reduction="none")

    loss = NetworkLoss(nn.Linear(4, 3), torch.ones(5, 4), torch.arange(5) % 3, loss=margin)
    with pytest.raises(ConfigError, match=r"multi_margin_loss.*in the loss"):
        HessianProducts(loss, loss.position())(torch.ones(1, loss.dim))


def test_slopes_scaled_by_frequency_are_refused():
    module = nn.Sequential(nn.Embedding(3, 2, scale_grad_by_freq=True), nn.Linear(2, 2))
    with pytest.raises(ConfigError, match="scale_grad_by_freq"):
        NetworkLoss(module, torch.tensor([0, 0, 1]), torch.zeros(3), loss=losses)


# -- odd losses and outputs --------------------------------------------------------------------------------------------


class Structured(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, inputs):
        return {"value": self.layer(inputs).tanh(), "copy": inputs}


def test_gauss_newton_needs_one_tensor():
    module, inputs = Structured(), torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    loss = NetworkLoss(module, inputs, torch.zeros(5), loss=lambda o, t: losses(o["value"], t))
    at = loss.position()
    assert HessianProducts(loss, at).matrix().isfinite().all()
    with pytest.raises(ConfigError, match="call="):
        GaussNewtonProducts(loss, at)
    taken = NetworkLoss(module, inputs, torch.zeros(5), loss=losses, call=lambda one, batch: one(batch)["value"])
    assert GaussNewtonProducts(taken, at).matrix().isfinite().all()


def test_losses_without_curvature_give_zeros():
    settings = {"loss": lambda o, t: o.sum(1), "weight_decay": 0.5}  # slopes that are constants
    loss = NetworkLoss(nn.Linear(4, 2), torch.ones(5, 4), torch.zeros(5), **settings)
    vectors = torch.eye(loss.dim)[:2]
    for products in (HessianProducts, GaussNewtonProducts):
        torch.testing.assert_close(products(loss, loss.position())(vectors), 0.5 * vectors)


def test_losses_without_slopes_are_refused():
    with pytest.raises(ConfigError, match="no derivative"):
        NetworkLoss(nn.Linear(4, 2), torch.ones(5, 4), torch.zeros(5), loss=lambda o, t: o.detach().square().sum(1))


def test_samples_that_need_each_other_are_measured_together():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, inputs):
            hidden = self.layer(inputs)
            return torch.tanh(hidden - hidden.mean(0))

    loss = network(Mixed)[1]
    at = loss.position()
    assert loss.samples_interact
    along = torch.ones(loss.dim, dtype=torch.float64)
    truth = differences(loss.gradient, at, along)
    torch.testing.assert_close(HessianProducts(loss, at)(along[None])[0], truth, rtol=1e-6, atol=1e-8)
