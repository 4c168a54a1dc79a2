# SPDX-License-Identifier: GPL-3.0-or-later
"""Warp beside torch: start-up with our kernel cache, zero-copy views, launches on torch's current stream.

Import this module before any module that defines a Warp kernel: it sets the cache folder and the module options that
Warp reads when it starts. Kernels carry hand-written adjoints, so Warp's own are switched off (`MODULE_OPTIONS`): that
halves the compile time.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import warp as wp

from backend.environment import home

#: Options every kernel module sets with `wp.set_module_options(MODULE_OPTIONS)` (they belong to the calling module).
MODULE_OPTIONS: dict[str, Any] = {"enable_backward": False}


@contextlib.contextmanager
def _mute_native_errors() -> Iterator[None]:
    """Sends what libraries print to file descriptor 2 to nowhere."""
    try:
        saved = os.dup(2)
    except OSError:  # a program without a console
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def _start() -> None:
    """Start Warp once per process, silently, with compiled kernels kept under `home()`/cache/warp."""
    cache = home() / "cache" / "warp"
    cache.mkdir(parents=True, exist_ok=True)
    wp.config.kernel_cache_dir = str(cache)
    wp.config.enable_backward = False
    wp.config.log_level = wp.LOG_ERROR
    with contextlib.nullcontext() if torch.cuda.is_available() else _mute_native_errors():
        wp.init()  # its library warns of a missing CUDA driver, which is no news where torch has none either
    wp.config.log_level = wp.LOG_WARNING


_start()

#: Below this many threads of a kernel, handing pieces to other cores costs more than it saves.
SPLIT_FROM = 16384

_pool: ThreadPoolExecutor | None = None
_loaded: set[Any] = set()
_devices: dict[torch.device, Any] = {}
_streams: dict[tuple[int | None, int], Any] = {}


def warp_device(device: torch.device) -> Any:
    """Warp's device object for a torch device."""
    found = _devices.get(device)
    if found is None:
        found = _devices[device] = wp.device_from_torch(device)
    return found


def _stream(device: torch.device) -> Any:
    """Torch's current stream on a CUDA device, as a Warp stream."""
    current = torch.cuda.current_stream(device)
    key = (current.device_index, current.cuda_stream)
    found = _streams.get(key)
    if found is None:
        found = _streams[key] = wp.stream_from_torch(current)
    return found


def as_warp(tensor: torch.Tensor, dtype: Any) -> Any:
    """A kernel argument that aliases the tensor's memory: no copy if contiguous, no gradient, any number of axes.

    `dtype` is the Warp element type; a vector type takes the trailing axis ([V, 4] float32 as wp.vec4 -> [V]).
    Outputs must be contiguous (fresh tensors are): a non-contiguous input is copied. The result is a bare descriptor,
    good for `launch` only; where Warp wants a true array (wp.Mesh), use `as_array`.
    """
    return wp.from_torch(tensor.detach().contiguous(), dtype, requires_grad=False, return_ctype=True)


def as_array(tensor: torch.Tensor, dtype: Any) -> wp.array:
    """Like `as_warp`, as a full wp.array, which keeps the tensor alive."""
    return wp.from_torch(tensor.detach().contiguous(), dtype, requires_grad=False)


def launch(
    kernel: Any,
    dim: int | Sequence[int],
    inputs: Sequence[Any],
    outputs: Sequence[Any] = (),
    device: torch.device | None = None,
    block_dim: int = 256,
) -> None:
    """Run a kernel on torch's current stream of `device` (default: CPU).

    Asynchronous on CUDA, finished on return on the CPU, where it runs on one core (see `launch_range`).
    """
    device = device or torch.device("cpu")
    stream = _stream(device) if device.type == "cuda" else None
    wp.launch(
        kernel,
        dim,
        inputs=list(inputs) + list(outputs),
        device=warp_device(device),
        stream=stream,
        record_tape=False,
        block_dim=block_dim,
    )


def launch_range(
    kernel: Any,
    dim: int,
    inputs: Sequence[Any],
    outputs: Sequence[Any] = (),
    device: torch.device | None = None,
    pieces: int | None = None,
) -> None:
    """Like `launch`, but on all of torch's cores on the CPU, for kernels whose threads write to separate memory.

    The kernel's first argument is an int32 that it adds to wp.tid() (Warp has no launch offset). Warp's atomics are
    plain memory accesses on the CPU, so kernels that scatter must use `launch`. With `pieces`, the range is cut into
    that many equal pieces, each of which runs on one core. (Warp leaves Python's lock while a kernel runs.)
    """
    global _pool
    device = device or torch.device("cpu")
    arguments = [*inputs, *outputs]
    workers = torch.get_num_threads()
    # Loading a module is not safe in several threads: the first launch of a kernel is an ordinary one.
    if device.type == "cuda" or workers == 1 or dim < SPLIT_FROM or kernel not in _loaded:
        launch(kernel, dim, [0, *arguments], device=device)
        _loaded.add(kernel)
        return
    if _pool is None:
        _pool = ThreadPoolExecutor(workers, thread_name_prefix="kernel")
    count = pieces or workers
    bounds = [dim * k // count for k in range(count + 1)]
    jobs = [
        _pool.submit(launch, kernel, end - begin, [begin, *arguments], device=device)
        for begin, end in zip(bounds[1:-1], bounds[2:])
    ]
    launch(kernel, bounds[1], [0, *arguments], device=device)
    for job in jobs:
        job.result()
