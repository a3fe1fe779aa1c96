"""Read the pickles CIFAR-10 consists of without ever unpickling.

The instructions of the pickle are walked as data (`pickletools.genops` executes nothing), on a
stack machine that knows only what such a batch consists of: dicts, lists, tuples, byte strings, integers, None,
booleans, and uint8 arrays. A name a pickle asks for is never looked up, only compared; anything else is refused by
name. What is built can never outgrow the file: a claimed shape has to fit the bytes that are there, memo indices are
keys, not sizes of a table, and all strings that are encoded anew have together no more bytes than the file.
"""

from __future__ import annotations

import dataclasses
import math
import pickletools
from typing import Any

import numpy as np

from ciad_engine.domain import Pixels
from ciad_engine.errors import DataError

_RECONSTRUCT = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")  # numpy 1, numpy 2
_NDARRAY = "numpy.ndarray"
_DTYPE = "numpy.dtype"
_ENCODE = "_codecs.encode"  # how Python 3 writes byte strings for Python 2

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = {"BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES"}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "TUPLE": None}


@dataclasses.dataclass(frozen=True)
class _Name:
    text: str


@dataclasses.dataclass(eq=False)
class _Array:
    values: Pixels | None = None


_UINT8 = _Name("dtype('u1')")  # the one dtype; its state says nothing that matters to single bytes


class _Machine:
    """The stack machine; `where` names the file in errors, `room` is how many bytes it may encode."""

    def __init__(self, where: str, room: int) -> None:
        self.where, self.room = where, room
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def refused(self, wanted: str) -> DataError:
        return DataError(
            f"{self.where} wants {wanted[:100]}, which no CIFAR-10 batch does: refused, nothing was executed. "
            "Use the official files (`ciad data fetch`)."
        )

    def step(self, code: str, argument: Any) -> None:
        stack = self.stack
        if code in ("SHORT_BINSTRING", "BINSTRING"):  # byte strings of Python 2
            stack.append(argument.encode("latin-1"))
        elif code in _VALUES:
            stack.append(argument)
        elif code in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif code == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif code in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif code in _CONSTANTS:
            stack.append(_CONSTANTS[code])
        elif code == "MARK":
            self.marks.append(len(stack))
        elif code in _TUPLES:
            stack.append(tuple(self.pop(_TUPLES[code])))
        elif code == "EMPTY_LIST":
            stack.append([])
        elif code == "EMPTY_DICT":
            stack.append({})
        elif code in ("APPEND", "APPENDS"):
            items = self.pop(1 if code == "APPEND" else None)
            self.target(list).extend(items)
        elif code in ("SETITEM", "SETITEMS"):
            items = self.pop(2 if code == "SETITEM" else None)
            if not all(isinstance(key, bytes | str) for key in items[::2]):
                raise self.refused("a dictionary with keys that are no text")
            self.target(dict).update(zip(items[::2], items[1::2], strict=True))
        elif code in ("GLOBAL", "INST"):
            name = self.admitted(argument.replace(" ", ".", 1))
            if code == "INST":
                raise self.refused(f"to make a {name.text}")
            stack.append(name)
        elif code == "STACK_GLOBAL":
            module, attribute = self.pop(2)
            stack.append(self.admitted(f"{module}.{attribute}"))
        elif code == "REDUCE":
            function, arguments = self.pop(2)
            stack.append(self.call(function, arguments))
        elif code == "BUILD":
            (state,) = self.pop(1)
            self.build(stack[-1], state)
        elif code not in ("PROTO", "FRAME", "STOP"):
            raise self.refused(f"the pickle instruction {code}")

    def pop(self, count: int | None) -> list[Any]:
        """Take so many values off the stack, or all that came after the last mark."""
        start = self.marks.pop() if count is None else len(self.stack) - count
        if start < (self.marks[-1] if self.marks else 0):
            raise IndexError("its stack is empty")
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def target(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise self.refused(f"to fill a {type(self.stack[-1]).__name__} as a {kind.__name__}")
        return self.stack[-1]

    def admitted(self, name: str) -> _Name:
        if name not in (*_RECONSTRUCT, _NDARRAY, _DTYPE, _ENCODE):
            raise self.refused(name)
        return _Name(name)

    def call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, _Name) or type(arguments) is not tuple:
            raise self.refused(f"to call a {type(function).__name__}")
        first = arguments[0] if arguments else None
        if function.text in _RECONSTRUCT and first == _Name(_NDARRAY):
            return _Array()
        if function.text == _DTYPE:
            if first not in ("u1", b"u1"):
                raise self.refused(
                    f"an array of dtype {first!r}" if isinstance(first, bytes | str) else "a composed dtype"
                )
            return _UINT8
        if function.text == _ENCODE and isinstance(first, str) and arguments[1:] in (("latin1",), (b"latin1",)):
            self.room -= len(first)
            if self.room < 0:
                raise self.refused("to write the same string again and again")
            return first.encode("latin-1")
        raise self.refused(f"to call {function.text} in an unusual way")

    def build(self, made: Any, state: Any) -> None:
        unknown = f"to set the state of a {type(made).__name__.strip('_')}"
        if type(state) is not tuple:
            raise self.refused(unknown)
        if made is _UINT8:
            if len(state) < 5 or any(part is not None for part in state[2:5]):
                raise self.refused("a composed dtype")
        elif isinstance(made, _Array) and made.values is None and len(state) == 5:
            _, shape, dtype, fortran, raw = state
            if dtype is not _UINT8 or type(raw) is not bytes:
                raise self.refused("an array that does not hold bytes")
            sane = type(shape) is tuple and 1 <= len(shape) <= 2 and all(type(n) is int and n >= 0 for n in shape)
            if not sane or math.prod(shape) != len(raw):
                raise DataError(f"{self.where} is damaged: its array has {len(raw)} bytes, which is not its shape.")
            made.values = np.frombuffer(raw, np.uint8).reshape(shape, order="F" if fortran is True else "C")
        else:
            raise self.refused(unknown)


def read(raw: bytes, where: str) -> dict[bytes, Any]:
    """The dictionary in a pickle; text keys come as bytes, arrays as uint8 arrays of 1 or 2 axes.

    Raises:
        DataError: the pickle is damaged, or wants anything a CIFAR-10 batch has no need of.
    """
    machine = _Machine(where, len(raw))
    code = None
    try:
        for instruction, argument, _ in pickletools.genops(raw):
            code = instruction.name
            machine.step(code, argument)
        (result,) = machine.stack
        if type(result) is not dict:
            raise ValueError(f"it holds a {type(result).__name__}")
    except DataError:
        raise
    # What damage looks like from here; MemoryError is left out since nothing outgrows the file.
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise DataError(
            f"{where} is damaged or truncated, or no CIFAR-10 batch ({error}). Fetch the data again."
        ) from error
    content = {}
    for key, value in result.items():
        content[key.encode(errors="replace") if isinstance(key, str) else key] = (
            value.values if isinstance(value, _Array) else value
        )
    return content
