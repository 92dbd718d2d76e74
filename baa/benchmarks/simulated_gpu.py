"""A GPU that computes nothing: what a training step would ask of one is counted without having one.

Tensors of the device `gpu` have shape and type, but no numbers (torch's `FakeTensorMode`). Tensors of the CPU are real. An
operation that mixes both fails, as on a GPU.
"""

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

GPU = "gpu"
TENSORS_PER_LAUNCH = 110
"""Tensors that one kernel of a `foreach` or fused operation takes, about."""

WAITING = {"_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2", "_linalg_check_errors"}
"""Operations whose result the host needs, so that it waits for the device."""

NO_KERNEL = {
    *("view", "_unsafe_view", "_reshape_alias", "alias", "as_strided", "detach", "expand", "permute", "t", "transpose"),
    *("select", "slice", "split", "split_with_sizes", "squeeze", "unbind", "unfold", "unsqueeze", "diagonal", "is_same_size"),
    *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "lift_fresh"),
}
"""Operations that compute nothing."""


class SimulatedGpu(TorchDispatchMode):
    """Run operations of the GPU on shapes alone, and count them.

    `phase` is the name under which kernels are counted; those of backward passes under `backward_phase`. A number that the host
    asks the GPU for is 1, a truth is True.
    """

    def __init__(self) -> None:
        super().__init__()
        self.shapes = FakeTensorMode(allow_non_fake_inputs=True)
        self.phase = self.backward_phase = ""
        self.forget()

    def forget(self) -> None:
        """Begin to count anew."""
        self.kernels: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = [tensor.device.type == GPU for tensor in tensors]
        device = kwargs.get("device")
        if not any(there) and (device is None or torch.device(device).type != GPU):
            with _disable_current_modes():
                return func(*args, **kwargs)
        name = func.overloadpacket.__name__
        if why := _waits(name, tensors, args, kwargs):
            self.waits[f"{why} at {_place()}"] += 1
        if name == "_local_scalar_dense":
            return True if tensors[0].dtype == torch.bool else tensors[0].dtype.is_floating_point * 1.0 or 1
        copied = any(tensor.device.type != GPU for tensor in tensors) and name in ("_to_copy", "copy_")
        if name not in NO_KERNEL and func.namespace != "prim" and not copied:
            together = name.startswith(("_foreach", "_fused"))
            backward = torch._C._current_autograd_node() is not None
            launches = -(-len(tensors) // TENSORS_PER_LAUNCH) if together else 1
            self.kernels[self.backward_phase if backward else self.phase] += launches
        if name == "_to_copy" and (not any(there) or device == torch.device("cpu")):  # there, or back: as ones
            with self.shapes if device.type == GPU else _disable_current_modes():
                return torch.ones(tensors[0].shape, dtype=kwargs.get("dtype") or tensors[0].dtype, device=device)
        try:
            with self.shapes:
                return func(*args, **kwargs)
        except RuntimeError as error:
            raise RuntimeError(f"{name} at {_place()}: {error}") from None


def _waits(name: str, tensors: list[Tensor], args: Any, kwargs: Any) -> str:
    """Why the host waits in an operation; empty if it does not."""
    if name in WAITING:
        return name
    if name.startswith(("index", "_index")) and any(tensor.dtype in (torch.bool, torch.uint8) for tensor in tensors[1:]):
        return "index by truth values"
    if name == "copy_" and tensors[0].device != tensors[1].device:
        return "" if len(args) > 2 and args[2] else "copy between host and device"
    if name == "_to_copy" and torch.device(kwargs.get("device") or tensors[0].device) != tensors[0].device:
        return "" if kwargs.get("non_blocking") else "copy between host and device"
    return ""


def _place() -> str:
    """The line of this package, or else of a library, that asked for an operation."""
    frames = [frame for frame in traceback.extract_stack() if frame.filename != __file__ and "/torch/" not in frame.filename]
    own = [frame for frame in frames if "/baa/" in frame.filename and "/benchmarks/" not in frame.filename]
    frame = (own or frames)[-1]
    return f"{'/'.join(frame.filename.split('/')[-2:])}:{frame.lineno}"


@contextmanager
def simulated_gpu() -> Iterator[SimulatedGpu]:
    """Make the device `gpu` usable. Modules are built under `torch.device(GPU)`, and cannot be moved afterward."""
    if not hasattr(torch, GPU):
        backend_registration._setup_privateuseone_for_python_backend(GPU)
        torch.gpu.get_amp_supported_dtype = lambda: [torch.bfloat16]  # type: ignore[attr-defined]
    with (
        _tensors_made_on_the_host(),
        patch.object(nn.Module, "to", lambda module, *_, **__: module),
        patch.object(nn.Module, "cpu", lambda module: module),
        SimulatedGpu() as gpu,
    ):
        yield gpu


@contextmanager
def _tensors_made_on_the_host() -> Iterator[None]:
    """`torch.tensor(..., device=GPU)` makes a tensor of the host and copies it, as it does for a GPU."""
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        yield
    finally:
        torch._C._set_only_lift_cpu_tensors(before)


class GpuAccelerator(Accelerator):
    """Lightning's view of the simulated GPU."""

    def setup_device(self, device: torch.device) -> None: ...

    def teardown(self) -> None: ...

    def get_device_stats(self, device: Any) -> dict[str, Any]:
        return {}

    @staticmethod
    def parse_devices(devices: Any) -> Any:
        return devices

    @staticmethod
    def get_parallel_devices(devices: Any) -> list[torch.device]:
        return [torch.device(GPU, 0)]

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def name() -> str:
        return GPU


class GpuStrategy(SingleDeviceStrategy):
    """One simulated GPU, on which the module has been built."""

    def __init__(self) -> None:
        super().__init__(torch.device(GPU, 0))

    def model_to_device(self) -> None: ...

    def teardown(self) -> None: ...
