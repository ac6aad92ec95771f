"""A pretended CUDA device: tensors in ordinary memory that claim to be elsewhere, and keep the rules of elsewhere.

    with PretendedGPU() as gpu:
        x = torch.zeros(3, device="cuda")  # x.device is cuda:0
        x + torch.zeros(3)                 # RuntimeError: two devices
        x.numpy()                          # TypeError, as of a real one
        float(x.sum())                     # works, and gpu.counts["wait:item"] is one more

Which device a tensor is on stands beside its storage, so that views share it, and vmap, autograd and operations in
place need nothing special. A graph records the operations of a capture as the dispatcher sees them and replays them on
the same memory, with the Python numbers of the capture; what CUDA refuses during a capture raises. What it cannot show:
other rounding, races between streams, speed, memory that runs out.
"""

from __future__ import annotations

import contextlib
import traceback
from collections import Counter, defaultdict
from typing import Any

import torch
from torch._C import _functorch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

CPU = torch.device("cpu")

WAITS = {  # the host waits for a value, or for a size that depends on values
    "_linalg_check_errors", "_linalg_eigh", "_linalg_solve_ex_checked", "_linalg_svd", "_unique2", "bincount", "equal",
    "histc", "is_nonzero", "linalg_eig", "linalg_inv", "linalg_lstsq", "masked_select", "nonzero", "repeat_interleave",
    "unique_consecutive", "unique_dim",
}  # fmt: skip
ABSENT = {"_histogramdd_from_bin_cts", "geqrf_cpu", "histogram", "histogramdd", "mkldnn_convolution"}  # on a device
PRODUCTS = {"addbmm", "addmm", "addmv", "baddbmm", "bmm", "dot", "matmul", "mm", "mv"}  # none of integers on a device
TAKES_SCALARS = {  # of the host beside tensors of the device, like whatever works by element
    "_index_put_impl_", "_unsafe_index_put", "addcdiv", "addcmul", "clamp", "clamp_max", "clamp_min", "fill", "fill_",
    "index_put", "index_put_", "lerp", "lerp_", "masked_fill", "masked_fill_", "where",
}  # fmt: skip
INDEXING = {"_index_put_impl_", "_unsafe_index", "_unsafe_index_put", "index", "index_put", "index_put_"}
VIEWS = {  # no kernel is launched
    "_reshape_alias", "_unsafe_view", "alias", "as_strided", "chunk", "detach", "diagonal", "expand", "lift_fresh",
    "permute", "select", "slice", "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unfold",
    "unsqueeze", "view",
}  # fmt: skip
TO_PYTHON = ("__bool__", "__float__", "__index__", "__int__", "item", "tolist")


class CaptureError(RuntimeError):
    """What CUDA refuses during a capture."""

    def __init__(self, what: str) -> None:
        super().__init__(f"operation not permitted when stream is capturing: {what}")


class PretendedGPU:
    """Devices `cuda:0` to `cuda:n - 1` while the context lasts.

    Attributes
    ----------
    counts : Counter
        Waits (``wait:...``), copies (``copy:to device``, ``copy:to host``, ``copy:between``), kernels, captures and
        replays.
    where : dict of Counter
        With ``trace=True``, the lines of the package that made each of them.
    """

    def __init__(self, *, devices: int = 1, memory: int = 80 * 2**30, trace: bool = False) -> None:
        self.devices, self.memory, self.trace = devices, memory, trace
        self.counts: Counter[str] = Counter()
        self.where: dict[str, Counter[str]] = defaultdict(Counter)
        self.current = 0
        self.capturing: Graph | None = None
        self.making: torch.device | None = None  # where a function of Python makes what it makes
        self._held: dict[int, tuple[StorageWeakRef, torch.device]] = {}

    def __enter__(self) -> PretendedGPU:
        self._stack = contextlib.ExitStack()
        for (holder, name), value in stand_ins(self).items():
            self._stack.callback(setattr, holder, name, getattr(holder, name))
            setattr(holder, name, value)
        self._stack.enter_context(Operations(self))
        self._stack.enter_context(Functions(self))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
        self._held.clear()

    # -- where a tensor is --------------------------------------------------------------------------------------------

    def storage(self, tensor: torch.Tensor) -> Any:
        """The storage inside whatever vmap and autograd have wrapped around it; None if there is none."""
        while _functorch.is_functorch_wrapped_tensor(tensor):
            tensor = _functorch.get_unwrapped(tensor)
        try:
            return tensor.untyped_storage()
        except (NotImplementedError, RuntimeError):
            return None

    def of(self, tensor: torch.Tensor) -> torch.device:
        """Which device a tensor is on."""
        storage = self.storage(tensor)
        held = None if storage is None else self._held.get(storage._cdata)
        return CPU if held is None else held[1]

    def put(self, tensor: torch.Tensor, device: torch.device) -> None:
        """Declare that a tensor's storage is on a device."""
        storage = self.storage(tensor)
        if storage is None:
            return
        if device == CPU:
            self._held.pop(storage._cdata, None)
            return
        if len(self._held) > 20_000:
            self._held = {key: held for key, held in self._held.items() if not held[0].expired()}
        known = self._held.get(storage._cdata)  # held weakly: an address is not given again under its mark
        self._held[storage._cdata] = (known[0] if known else StorageWeakRef(storage), device)

    def named(self, device: Any) -> torch.device:
        """A device as CUDA understands its name."""
        device = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
        if device.type != "cuda":
            return device
        index = self.current if device.index is None else device.index
        if index >= self.devices:
            raise RuntimeError(f"CUDA error: invalid device ordinal {index}")
        return torch.device("cuda", index)

    # -- what is counted ----------------------------------------------------------------------------------------------

    def count(self, what: str) -> None:
        """One more of these, and where in the package it was made."""
        self.counts[what] += 1
        if self.trace:
            lines = [frame for frame in traceback.extract_stack() if "/site-packages/" not in frame.filename]
            ours = [frame for frame in lines if "/tests/" not in frame.filename]
            if ours:
                self.where[what][f"{ours[-1].filename}:{ours[-1].lineno}"] += 1

    def wait(self, what: str) -> None:
        """The host waits for the device."""
        if self.capturing is not None:
            raise CaptureError(what)
        self.count(f"wait:{what}")

    def copied(self, source: torch.device, target: torch.device) -> None:
        """Something went from one device to another."""
        if source == target:
            return
        if self.capturing is not None and CPU in (source, target):
            raise CaptureError("a copy between the host and the device")
        self.count("copy:" + ("to device" if source == CPU else "to host" if target == CPU else "between"))


class Functions(TorchFunctionMode):
    """What Python code says of devices: `device=`, `.to`, `.device`, and values that leave for Python."""

    def __init__(self, gpu: PretendedGPU) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        gpu, kwargs = self.gpu, kwargs or {}
        name = getattr(function, "__name__", "")
        first = args[0] if args and isinstance(args[0], torch.Tensor) else None
        here = CPU if first is None else gpu.of(first)
        if name == "__get__":
            return self.attribute(function, here, args, kwargs)
        if name == "get_device":
            return -1 if here == CPU else here.index
        if name == "pin_memory":
            return first
        if here != CPU:
            if name in ("numpy", "__array__") and not kwargs.get("force"):
                raise TypeError(f"can't convert {here} device type tensor to numpy. Use Tensor.cpu() first")
            if name in TO_PYTHON and gpu.capturing is not None:
                raise CaptureError(name)
            if name == "tolist":
                gpu.wait(name)
            if name == "new_tensor" and kwargs.get("device") is None:
                kwargs = {**kwargs, "device": here}
        if function in (torch.Tensor.to, torch.Tensor.cuda, torch.Tensor.cpu):
            return self.moved(function, name, here, args, kwargs)
        if kwargs.get("device") is not None:
            return self.made(function, name, args, kwargs)
        if gpu.making is None and name not in ("tensor", "as_tensor", "from_numpy"):
            given = (gpu.of(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor))
            with self.making(next((device for device in given if device != CPU), None)):
                return function(*args, **kwargs)
        return function(*args, **kwargs)

    def attribute(self, function: Any, here: torch.device, args: Any, kwargs: Any) -> Any:
        """`.device` and its relatives."""
        match function.__self__:
            case torch.Tensor.device:
                return here
            case torch.Tensor.is_cuda:
                return here != CPU
            case torch.Tensor.is_cpu:
                return here == CPU
        return function(*args, **kwargs)

    @contextlib.contextmanager
    def making(self, device: torch.device | None) -> Any:
        before, self.gpu.making = self.gpu.making, device
        try:
            yield
        finally:
            self.gpu.making = before

    def made(self, function: Any, name: str, args: Any, kwargs: Any) -> Any:
        """What a function makes on a device that it is given."""
        gpu, device = self.gpu, self.gpu.named(kwargs["device"])
        kwargs = {**kwargs, "device": CPU}
        if name in ("tensor", "as_tensor", "asarray", "new_tensor"):
            data = args[-1] if args else kwargs["data"]
            source = gpu.of(data) if isinstance(data, torch.Tensor) else CPU
            result = function(*args, **kwargs)
            if source == device:
                return result
            gpu.copied(source, device)
            result = result.clone()
        else:
            with self.making(device):
                result = function(*args, **kwargs)
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                gpu.put(leaf, device)
        return result

    def moved(self, function: Any, name: str, source: torch.device, args: Any, kwargs: Any) -> Any:
        """`.to`, `.cuda` and `.cpu`."""
        gpu, (tensor, *rest), kwargs = self.gpu, args, dict(kwargs)
        target = source
        if name == "cpu":
            target = CPU
        elif name == "cuda":
            target = gpu.named(rest[0] if rest else kwargs.get("device", "cuda"))
            function, rest, kwargs = torch.Tensor.cpu, [], {}
        elif rest and isinstance(rest[0], torch.Tensor):
            target = gpu.of(rest[0])
        else:
            for place, one in enumerate(rest):
                if isinstance(one, str | torch.device) or (place == 0 and type(one) is int):
                    target, rest[place] = gpu.named(one), CPU
            if kwargs.get("device") is not None:
                target, kwargs["device"] = gpu.named(kwargs["device"]), CPU
        gpu.copied(source, target)
        result = function(tensor, *rest, **kwargs)
        if target != source:
            if gpu.storage(result)._cdata == gpu.storage(tensor)._cdata:
                with torch._C.DisableTorchFunction():
                    result = result.clone()
            gpu.put(result, target)
        return result


class Operations(TorchDispatchMode):
    """What the device is asked to do, each operation on its own."""

    def __init__(self, gpu: PretendedGPU) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        gpu, kwargs = self.gpu, kwargs or {}
        name = function.overloadpacket.__name__
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        devices = [gpu.of(tensor) for tensor in tensors]
        elsewhere = {device for device in devices if device != CPU}
        if elsewhere:
            self.check(function, name, args, tensors, devices, elsewhere)
        target = next(iter(elsewhere), CPU) if tensors else (gpu.making or CPU)
        target = devices[0] if name == "copy_" else target
        known = {storage._cdata for tensor in tensors if (storage := gpu.storage(tensor)) is not None}
        result = function(*args, **kwargs)
        for leaf in tree_leaves(result):
            storage = gpu.storage(leaf) if isinstance(leaf, torch.Tensor) else None
            if storage is not None and storage._cdata not in known:
                gpu.put(leaf, target)
        if target != CPU:
            if gpu.capturing is not None and gpu.capturing.device == target:
                gpu.capturing.tape.append((function, args, kwargs, result, known))
            if name not in VIEWS:
                gpu.counts["kernel"] += 1
        return result

    def check(self, function: Any, name: str, args: Any, tensors: Any, devices: Any, elsewhere: Any) -> None:
        """The rules of an operation with tensors of a device."""
        gpu = self.gpu
        if name == "_local_scalar_dense":
            return gpu.wait("item")
        if name == "copy_":
            return gpu.copied(devices[1], devices[0])
        if name in ABSENT or (name in PRODUCTS and not (tensors[0].is_floating_point() or tensors[0].is_complex())):
            raise NotImplementedError(f"{name} has no kernel for {tensors[0].dtype} on a device")
        of_the_host = [tensor for tensor, device in zip(tensors, devices, strict=True) if device == CPU]
        if name in INDEXING:
            indices = [index for index in args[1] if index is not None]
            if devices[0] != CPU:  # indices of the host are taken along
                for index in indices:
                    gpu.copied(gpu.of(index), devices[0])
                of_the_host = [tensor for tensor in of_the_host if all(tensor is not index for index in indices)]
            one_value = name not in ("index", "_unsafe_index") and args[2].numel() == 1
            if any(index.dtype in (torch.bool, torch.uint8) for index in indices) and not one_value:
                gpu.wait("mask")
        by_element = torch.Tag.pointwise in function.tags or name in TAKES_SCALARS or name.startswith("_foreach")
        writes = any(one.alias_info is not None and one.alias_info.is_write for one in function._schema.arguments)
        scalars = by_element and all(tensor.dim() == 0 for tensor in of_the_host) and not (writes and devices[0] == CPU)
        if len(elsewhere) > 1 or (of_the_host and not scalars):
            shapes = ", ".join(f"{tuple(t.shape)} on {d}" for t, d in zip(tensors, devices, strict=True))
            raise RuntimeError(f"Expected all tensors to be on the same device in {function}: {shapes}")
        if name in WAITS:
            gpu.wait(name)
        return None


class Graph:
    """Operations of a capture; replayed on the same memory with the Python numbers of the capture."""

    def __init__(self, gpu: PretendedGPU) -> None:
        self.gpu, self.tape, self.device = gpu, [], CPU

    def replay(self) -> None:
        self.gpu.counts["replay"] += 1
        with torch._C.DisableTorchFunction(), torch.no_grad(), _disable_current_modes():
            for function, args, kwargs, made, known in self.tape:
                for old, new in zip(tree_leaves(made), tree_leaves(function(*args, **kwargs)), strict=True):
                    if isinstance(old, torch.Tensor) and old.untyped_storage()._cdata not in known:
                        old.copy_(new)

    def reset(self) -> None:
        self.tape = []

    def pool(self) -> tuple[int, int]:
        return 0, 0


class Stream:
    """Does nothing: all that is asked of a pretended device is done at once."""

    def __init__(self, gpu: PretendedGPU, device: Any = None, **settings: Any) -> None:
        self.device = gpu.named("cuda" if device is None else device)

    def wait_stream(self, other: Any) -> None:
        pass

    def synchronize(self) -> None:
        pass


def stand_ins(gpu: PretendedGPU) -> dict[tuple[Any, str], Any]:
    """What takes the place of names in torch.cuda."""

    @contextlib.contextmanager
    def on(device: Any) -> Any:
        before = gpu.current
        gpu.current = before if device is None else gpu.named(device).index or 0
        try:
            yield
        finally:
            gpu.current = before

    @contextlib.contextmanager
    def capture(graph: Graph, pool: Any = None, stream: Any = None, **settings: Any) -> Any:
        # without a stream torch takes one of its own, which is on the device that was current when it was first made
        graph.device = torch.device("cuda", 0) if stream is None else stream.device
        gpu.capturing = graph
        gpu.counts["capture"] += 1
        try:
            yield
        finally:
            gpu.capturing = None
        if not graph.tape:
            gpu.counts["empty graph"] += 1

    cuda = torch.cuda
    return {
        (cuda, "is_available"): lambda: True,
        (cuda, "is_initialized"): lambda: True,
        (cuda, "_lazy_init"): lambda: None,
        (cuda, "device_count"): lambda: gpu.devices,
        (cuda, "current_device"): lambda: gpu.current,
        (cuda, "device"): on,
        (cuda, "Stream"): lambda *args, **settings: Stream(gpu, *args, **settings),
        (cuda, "current_stream"): lambda *args: Stream(gpu, *args),
        (cuda, "stream"): lambda stream: contextlib.nullcontext(),
        (cuda, "CUDAGraph"): lambda *args, **settings: Graph(gpu),
        (cuda, "graph"): capture,
        (cuda, "is_current_stream_capturing"): lambda: gpu.capturing is not None,
        (cuda, "synchronize"): lambda *args: gpu.wait("synchronize"),
        (cuda, "get_rng_state"): lambda *args: torch.zeros(16, dtype=torch.uint8),
        (cuda, "set_rng_state"): lambda *args: None,
        (cuda, "mem_get_info"): lambda *args: (gpu.memory, gpu.memory),
        (cuda, "empty_cache"): lambda: None,
        (cuda, "get_device_name"): lambda *args: "pretended",
        (cuda, "get_device_capability"): lambda *args: (9, 0),
        (torch.accelerator, "current_stream"): lambda *args: Stream(gpu),
        (torch.accelerator, "current_device_index"): lambda: gpu.current,
    }
