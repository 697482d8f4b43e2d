"""A network by name, with weights, checked against the input/output contract before any use."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from pockethdr.brackets.bracket import CHANNELS, OUTPUT_CHANNELS
from pockethdr.errors import ModelError, WeightsError, first_line, own_line
from pockethdr.files import sha256_of
from pockethdr.models import zoo
from pockethdr.models.network import Network
from pockethdr.models.weights import load_weights, read_header

_EXAMPLE_SIZE = 64
_SPECS = "a name from `pockethdr models`, package.module:factory, or file.py:factory"


@dataclass(frozen=True)
class Loaded:
    """A network ready for use, in evaluation mode.

    Attributes:
        name: safe in file names.
        spec: as the user wrote it.
        weights, weights_sha256: the file that was loaded; None for a network that came with its
            own values (a user's factory) or with none (see `header`).
        header: what the weights file says of itself.
    """

    name: str
    spec: str
    domain: str
    module: nn.Module
    weights: Path | None = None
    weights_sha256: str | None = None
    header: dict[str, Any] | None = None


def load_model(spec: str, *, domain: str, weights: Path | None = None) -> Loaded:
    """Build the network that `spec` names, and load its weights.

    Args:
        spec: zoo name, "package.module:factory" or "file.py:factory"; the factory takes nothing
            and returns an nn.Module.
        domain: raw or rgb.
        weights: a safetensors file. None takes those that come with the package; a zoo network
            without any starts from seeded random values, with a warning; one is given too where
            the factory's values are other ones at each call.

    Raises:
        ModelError: no such network, or one that breaks the contract.
        WeightsError: the file is missing, a pickle, not finite, or of another network.
    """
    if domain not in CHANNELS:
        raise ModelError(f"unknown domain {domain!r}", expected=" or ".join(CHANNELS))
    own = ":" in spec
    module = _from_factory(spec) if own else _from_zoo(spec, domain)
    if not own:
        weights = weights or zoo.shipped_weights(spec, domain)
    header = None if weights is None else _loaded_header(module, weights, domain)
    if weights is None and not own:
        warnings.warn(f"{spec} {domain}: no weights; its values are random", stacklevel=2)
    if weights is None and own and _draws_values(spec, module):
        warnings.warn(
            f"{spec}: no weights given: its values are random, and differ from call to call",
            stacklevel=2,
        )
    module.eval().requires_grad_(False)
    _check_contract(spec, module, domain)
    digest = None if weights is None else sha256_of(weights)
    return Loaded(_name(spec), spec, domain, module, weights, digest, header)


def example_frames(
    domain: str, height: int, width: int, *, batch: int = 1, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Three seeded random frames N×C×H×W in [0, 1] that hold together as a bracket of ratio 4."""
    generator = torch.Generator().manual_seed(seed)
    planes = OUTPUT_CHANNELS[domain]
    radiance = torch.rand(batch, planes, height, width, generator=generator)
    seen = [(radiance * ratio).clamp(max=1.0) for ratio in (1.0, 4.0, 16.0)]
    short, mid, long = (
        torch.cat([x, x / r], 1) for x, r in zip(seen, (1.0, 4.0, 16.0), strict=True)
    )
    return short, mid, long


def _from_zoo(name: str, domain: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return zoo.build(name, domain)


def _loaded_header(module: nn.Module, weights: Path, domain: str) -> dict[str, Any]:
    header = read_header(weights)
    said = header.get("domain", domain)
    if said != domain:
        raise ModelError(
            f"{weights}: weights for {said} brackets",
            expected=f"weights for {domain}",
            fix=f"add --domain {said}, or give other weights",
        )
    if isinstance(module, Network) and "config" in header:
        _check_switches(weights, module, header["config"])
    return load_weights(weights, module)


def _check_switches(weights: Path, module: Network, said: Mapping[str, Any]) -> None:
    """Switches that leave every tensor's shape as it is change what the tensors mean."""
    trained, ours = asdict(type(module.config).from_dict(said)), asdict(module.config)
    other = [
        f"{name} = {trained[name]!r}, not {ours[name]!r}"
        for name in ours
        if trained[name] != ours[name]
    ]
    if other:
        raise WeightsError(
            f"{weights}: weights of a network with {', '.join(other)}",
            expected=f"weights trained for this {type(module).__name__}",
            fix="name the variant that these weights were trained for",
        )


def _from_factory(spec: str) -> nn.Module:
    where, _, name = spec.rpartition(":")
    factory = _attribute(spec, _imported(spec, where), name)
    try:
        module = factory()
    except Exception as error:
        raise _broken(spec, f"{name}() failed", error) from error
    if not isinstance(module, nn.Module):
        raise ModelError(f"{spec} returned {type(module).__name__}", expected="a torch.nn.Module")
    return module


def _draws_values(spec: str, module: nn.Module) -> bool:
    """Whether the factory makes other values the next time: nobody has trained those."""
    with torch.random.fork_rng(devices=[]), suppress(ModelError):
        other = _from_factory(spec).state_dict()
        return any(
            tensor.shape == other[name].shape and not torch.equal(tensor, other[name])
            for name, tensor in module.state_dict().items()
            if name in other
        )
    return False


def _imported(spec: str, where: str) -> ModuleType:
    if where.endswith(".py") and not Path(where).is_file():
        raise ModelError(
            f"{where}: no such file in {Path.cwd()}",
            expected=_SPECS,
            fix="run from the folder that it is named from, or give its whole path",
        )
    try:
        with _working_folder_importable():
            return _from_file(where) if where.endswith(".py") else importlib.import_module(where)
    except ModuleNotFoundError as error:
        raise ModelError(
            f"{spec}: no module named {error.name!r}",
            expected=_SPECS,
            fix="run from the folder that holds the package, or install it",
        ) from error
    except Exception as error:
        raise _broken(spec, f"importing {where} failed", error) from error


def _from_file(where: str) -> ModuleType:
    path = Path(where).resolve()
    found = importlib.util.spec_from_file_location(path.stem, path)
    if found is None or found.loader is None:
        raise ModelError(f"{where}: cannot be imported", expected=_SPECS)
    module = importlib.util.module_from_spec(found)
    sys.modules.setdefault(path.stem, module)
    found.loader.exec_module(module)
    return module


@contextmanager
def _working_folder_importable() -> Iterator[None]:
    """A console script does not see the folder it is started in; its user expects it to."""
    folder = str(Path.cwd())
    added = folder not in sys.path
    if added:
        sys.path.insert(0, folder)
    try:
        yield
    finally:
        if added and folder in sys.path:
            sys.path.remove(folder)


def _attribute(spec: str, module: ModuleType, name: str) -> Callable[[], object]:
    factory = getattr(module, name, None)
    if not callable(factory):
        offered = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise ModelError(
            f"{spec}: {module.__name__} has no callable {name!r}",
            expected=f"a factory without arguments; it has {', '.join(offered[:8]) or 'none'}",
        )
    return factory


def _check_contract(spec: str, module: nn.Module, domain: str) -> None:
    frames = example_frames(domain, _EXAMPLE_SIZE, _EXAMPLE_SIZE)
    expected = (1, OUTPUT_CHANNELS[domain], _EXAMPLE_SIZE, _EXAMPLE_SIZE)
    contract = (
        f"forward(short, mid, long), each {tuple(frames[0].shape)} for {domain}, "
        f"returning {expected} float32"
    )
    try:
        with torch.no_grad():
            output = module(*frames)
    except Exception as error:
        raise _broken(spec, "forward failed on an example", error, contract) from error
    if not isinstance(output, Tensor):
        raise ModelError(f"{spec}: forward returned {type(output).__name__}", expected=contract)
    got = f"{tuple(output.shape)} {str(output.dtype).removeprefix('torch.')}"
    if tuple(output.shape) != expected or output.dtype != torch.float32:
        raise ModelError(f"{spec}: forward returned {got}", expected=contract)
    if not bool(torch.isfinite(output).all()):
        raise ModelError(f"{spec}: forward returned NaN or infinity", expected=contract)


def _broken(spec: str, what: str, error: Exception, expected: str = _SPECS) -> ModelError:
    """The user's own code failed: its last line stands in for a traceback."""
    said = first_line(error, otherwise="no message")
    return ModelError(
        f"{spec}: {what}: {type(error).__name__}: {said}{own_line(error)}",
        expected=expected,
    )


def _name(spec: str) -> str:
    """`nets/unet.py:build` → unet-build: every other file has a `build` of its own."""
    where, _, name = spec.rpartition(":")
    module = Path(where).stem if where.endswith(".py") else where.rpartition(".")[2]
    return re.sub(r"[^A-Za-z0-9_-]+", "-", f"{module}-{name}").strip("-")
