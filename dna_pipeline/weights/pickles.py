"""The names and shapes of the tensors in a pickle that torch wrote, without torch.

Unpickling runs whatever functions a pickle names. Here every name stands for an object of ours that
does nothing, except for those few that rebuild tensors: these give the shape.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Mapping
from typing import IO, Any, cast

Shape = tuple[int, ...]

LEGACY_START = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""Start of the files that torch wrote before version 1.6: a number, as a pickle."""

_WRAPPERS = ("state_dict", "params_ema", "params", "model_state_dict")
"""Keys below which programs keep all tensors, the first that is there."""

_MAX_DEPTH = 4
_MAX_TENSORS = 1_000_000


class UnreadablePickle(ValueError):
    """The pickle is damaged. The text is a clause that says how."""


class _Tensor:
    """The shape of a tensor, in place of the tensor."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape


class _Inert:
    """Stands for an object of any class, and for the class: takes everything and does nothing."""

    def __new__(cls, *_: object, **__: object) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None: ...
    def __call__(self, *_: object, **__: object) -> _Inert:
        return self

    def __setstate__(self, _: object) -> None: ...
    def __setitem__(self, *_: object) -> None: ...
    def append(self, _: object) -> None: ...
    def extend(self, _: object) -> None: ...
    def add(self, _: object) -> None: ...
    def update(self, *_: object) -> None: ...


def _rebuild_tensor(_storage: object, _offset: object, size: object, *_: object) -> object:
    is_shape = isinstance(size, tuple) and all(
        isinstance(side, int) for side in cast("tuple[object, ...]", size)
    )
    return _Tensor(cast("Shape", size)) if is_shape else _Inert()


def _rebuild_parameter(data: object, *_: object) -> object:
    return data


_REBUILDERS: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
}


# The unpickler in C keeps its memo in an array as long as the largest index that a pickle names, so
# that a few bytes could take all memory. The one in Python keeps it in a dict.
class _ShapeReader(pickle._Unpickler):  # pyright: ignore[reportPrivateUsage]
    def find_class(self, module: str, name: str) -> Any:
        return _REBUILDERS.get((module, name), _Inert)

    def persistent_load(self, pid: Any) -> Any:
        return None


def read_shapes(file: IO[bytes], skip: int) -> dict[str, Shape]:
    """The shapes of all tensors in the pickle at this place, after `skip` others.

    The names of nested tensors are joined by dots. Names below `state_dict` and the like, which
    hold the whole model, go without that word.

    Raises:
        UnreadablePickle: it is damaged.
    """
    try:
        for _ in range(skip):
            _ShapeReader(file).load()
        document: object = _ShapeReader(file).load()
    except OSError:
        raise
    except Exception as error:
        raise UnreadablePickle("its list of tensors cannot be read") from error
    shapes: dict[str, Shape] = {}
    _collect(_unwrapped(document), "", 0, shapes)
    return shapes


def _unwrapped(document: object) -> object:
    if not isinstance(document, dict):
        return document
    entries = cast("dict[object, object]", document)
    inner = (entries[key] for key in _WRAPPERS if isinstance(entries.get(key), dict))
    return next(inner, entries)


def _collect(value: object, name: str, depth: int, shapes: dict[str, Shape]) -> None:
    if isinstance(value, _Tensor):
        shapes[name] = value.shape
    elif isinstance(value, dict) and depth < _MAX_DEPTH and len(shapes) < _MAX_TENSORS:
        for key, item in cast("dict[object, object]", value).items():
            if isinstance(key, str):
                _collect(item, f"{name}.{key}" if name else key, depth + 1, shapes)
