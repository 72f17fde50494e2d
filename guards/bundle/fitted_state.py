"""The fitted tensors of a bundle: how modules give them, how they are written, and how modules get them back."""

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Self, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from guards.sentences import as_list
from guards.types import Mistake

__all__ = ["FittedState", "named_state", "plain", "read_tensors", "restored", "write_tensors"]

M = TypeVar("M", bound=nn.Module)


class FittedState(dict[str, Tensor]):
    """The tensors of a bundle's state, by name; a tensor that is missing is a mistake and no KeyError."""

    def __missing__(self, name: str) -> Tensor:
        """Refuse.

        Raises:
            Mistake: always.
        """
        raise Mistake(f"the bundle's state lacks {name}, which this version needs; fit the bundle anew")

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read a safetensors file.

        The alignment of a file's tensors is accidental, and a vectorised sum is rounded by its alignment. So the
        tensors are copied: copies are aligned as the fitted tensors are.

        Raises:
            Mistake: the file is no safetensors file.
        """
        return cls({name: tensor.clone() for name, tensor in read_tensors(file).items()})

    def part(self, prefix: str) -> Self:
        """Give the tensors whose names begin with ``prefix``, without the prefix."""
        return type(self)({name.removeprefix(prefix): value for name, value in self.items() if name.startswith(prefix)})

    def refuse_others(self, known: Mapping[str, object]) -> None:
        """Refuse tensors that no part of the bundle has taken.

        Raises:
            Mistake: there is a tensor whose name ``known`` lacks.
        """
        if unread := sorted(self.keys() - known.keys()):
            raise Mistake(f"this version does not read {as_list(unread)} of the bundle's state; fit the bundle anew")


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        Mistake: the file is no safetensors file.
    """
    try:
        return load_file(file)
    except SafetensorError as broken:
        raise Mistake(f"{file}: it is no safetensors file ({broken}); fit the bundle anew") from broken


def named_state(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    """Give a module's buffers and parameters under names that begin with ``prefix``."""
    return {f"{prefix}.{name}": tensor for name, tensor in module.state_dict().items()}


def plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors to the CPU, each into memory of its own: safetensors takes no shared and no strided tensors."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}


def write_tensors(state: Mapping[str, Tensor], file: Path) -> None:
    """Write a safetensors file with the permissions that the umask gives to a new file.

    safetensors creates its files with mode 0600, whatever the umask is. A bundle with such a file cannot be read by the
    user of a container, once root or another user has copied it there.
    """
    file.touch()
    mode = stat.S_IMODE(file.stat().st_mode)
    save_file(plain(state), file)
    file.chmod(mode)


def restored(module: M, state: Mapping[str, Tensor], prefix: str) -> M:
    """Set every buffer and parameter of a module from the bundle; its shape may differ from that before fitting.

    Raises:
        Mistake: the state does not have the module's buffers: another version of the module was fitted.
    """
    given = {name.removeprefix(f"{prefix}."): value for name, value in state.items() if name.startswith(f"{prefix}.")}
    own = module.state_dict()
    dtypes = [{name: tensor.dtype for name, tensor in tensors.items()}.items() for tensors in (given, own)]
    if odd := sorted({name for name, _ in dtypes[0] ^ dtypes[1]}):
        raise Mistake(
            f"{prefix}: the bundle was fitted with another version of {type(module).__name__} (its state differs in "
            f"{as_list(odd)}); fit the bundle anew"
        )
    for name, tensor in given.items():
        owner, _, buffer = name.rpartition(".")
        holder = module.get_submodule(owner)
        learned = buffer in dict(holder.named_parameters(recurse=False))
        setattr(holder, buffer, nn.Parameter(tensor, requires_grad=False) if learned else tensor)
    return module
