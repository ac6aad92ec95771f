"""The pretended device keeps the rules of a real one: what mixes, waits, and is refused; what a graph does."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.device.pretended import CaptureError, PretendedGPU


@pytest.fixture
def gpu():
    with PretendedGPU(devices=2) as gpu:
        yield gpu


def test_tensors_say_where_they_are(gpu):
    x = torch.zeros(3, device="cuda")
    assert str(x.device) == "cuda:0"
    assert (x.is_cuda, x[1:].view(2, 1).is_cuda, (x + 1).is_cuda, torch.zeros_like(x).is_cuda) == (True,) * 4
    assert str(x.to("cuda:1").device) == "cuda:1"
    assert x.cpu().device == torch.device("cpu")
    assert gpu.counts["copy:to host"] == gpu.counts["copy:between"] == 1
    assert not torch.zeros(3).is_cuda  # control


def test_devices_do_not_mix(gpu):
    x = torch.arange(3.0, device="cuda")
    for other in (torch.zeros(3), torch.zeros(3, device="cuda:1")):
        with pytest.raises(RuntimeError, match="same device"):
            x + other
    with pytest.raises(TypeError, match=r"Use Tensor\.cpu"):
        x.numpy()
    assert (x + torch.tensor(1.0)).tolist() == [1, 2, 3]  # a scalar of the host goes along
    with pytest.raises(RuntimeError, match="invalid device ordinal 7"):
        torch.zeros(1, device="cuda:7")


def test_waits_are_counted(gpu):
    x = torch.arange(3.0, device="cuda")
    _ = x * 2 + x.sum()
    assert not any(what.startswith("wait") for what in gpu.counts)
    assert (float(x.sum()), bool((x > 1).any()), x[x > 0].numel()) == (3.0, True, 2)
    assert gpu.counts["wait:item"] == 2
    assert gpu.counts["wait:mask"] == 1


def test_derivatives_and_vmap_stay_there(gpu):
    module = nn.Linear(3, 1).to("cuda")
    x = torch.randn(5, 3, device="cuda")
    module(x).sum().backward()
    assert module.weight.grad.is_cuda
    parameters = dict(module.named_parameters())
    gradients = torch.func.vmap(
        torch.func.grad(lambda p, one: torch.func.functional_call(module, p, (one,)).sum()), (None, 0)
    )(parameters, x)
    assert gradients["weight"].is_cuda
    assert torch.equal(gradients["weight"].cpu()[:, 0], x.cpu())


def test_a_graph_replays_the_numbers_of_its_capture(gpu):
    x, k = torch.zeros(2, device="cuda"), 1
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        x += k
    x.zero_()
    k = 5
    for _ in range(3):
        graph.replay()
    assert x.tolist() == [3 * 1] * 2  # not of k as it is now
    assert (gpu.counts["capture"], gpu.counts["replay"]) == (1, 3)


def test_a_capture_refuses_what_cuda_refuses(gpu):
    x = torch.ones(2, device="cuda")
    for offence in (
        lambda: x.sum().item(),
        lambda: x + torch.ones(2).to("cuda"),
        lambda: x[x > 0],
        lambda: x.cpu(),
        lambda: bool(x.sum() > 0),
        lambda: torch.cuda.synchronize(),
    ):
        with pytest.raises(CaptureError), torch.cuda.graph(torch.cuda.CUDAGraph()):
            offence()


def test_a_capture_on_another_device_is_empty(gpu):
    x = torch.ones(2, device="cuda:1")
    with torch.cuda.graph(torch.cuda.CUDAGraph()):
        x += 1
    assert gpu.counts["empty graph"] == 1
    with torch.cuda.graph(torch.cuda.CUDAGraph(), stream=torch.cuda.Stream(device="cuda:1")):
        x += 1
    assert gpu.counts["empty graph"] == 1


def test_nothing_is_left_behind():
    before = torch.cuda.is_available()
    with PretendedGPU():
        x = torch.ones(2, device="cuda")
    assert torch.cuda.is_available() == before
    assert x.device == torch.device("cpu")
    assert np.array_equal(x.numpy(), [1, 1])
