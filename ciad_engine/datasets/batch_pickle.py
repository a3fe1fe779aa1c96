"""Read the pickles CIFAR-10 consists of, of any protocol, without ever unpickling.

The instructions of the pickle are walked as data (`pickletools` names them and executes nothing), on a
stack machine that knows only what such a batch consists of: dicts, lists, tuples, strings, numbers, None,
booleans, and arrays or scalars of numbers. A name a pickle asks for is never looked up, only compared; anything else
is refused by name. What is built can never outgrow the file: a claimed shape has to fit the bytes that are there, memo
indices are keys, not sizes of a table, all strings that are encoded anew have together no more bytes than the file,
and the instructions are counted.
"""

from __future__ import annotations

import codecs
import dataclasses
import io
import math
import pickletools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ciad_engine.errors import DataError
from ciad_engine.jobs import Job

MAX_INSTRUCTIONS = 500_000  # an official batch has 30,000; 10,000 labels as scalars of numpy in protocol 0 have 200,000
_MAX_AXES = 8
_EVERY = 4096  # instructions between two looks at the job

_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")  # numpy 1, numpy 2
_RECONSTRUCT = tuple(f"{module}._reconstruct" for module in _MULTIARRAY)
_SCALAR = tuple(f"{module}.scalar" for module in _MULTIARRAY)
_FROM_BUFFER = ("numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer")  # protocol 5
_NDARRAY = "numpy.ndarray"
_DTYPE = "numpy.dtype"
_ENCODE = "_codecs.encode"  # how Python 3 writes byte strings for Python 2
_BYTES = ("__builtin__.bytes", "builtins.bytes")  # the same of an empty one
_ADMITTED = (*_RECONSTRUCT, *_SCALAR, *_FROM_BUFFER, _NDARRAY, _DTYPE, _ENCODE, *_BYTES)

_NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")

_OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = {
    "INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1", "FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "TUPLE": None}


@dataclasses.dataclass(frozen=True)
class _Name:
    text: str


@dataclasses.dataclass(eq=False)
class _Array:
    values: npt.NDArray[Any] | None = None


@dataclasses.dataclass(eq=False)
class _Kind:
    """A dtype of numbers: its code, such as "u1", and the order of its bytes, which comes as its state."""

    code: str
    order: str = "<"

    def read(self, raw: bytes) -> npt.NDArray[Any]:
        return np.frombuffer(raw, np.dtype(self.order + self.code))


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
        elif code in ("STRING", "BYTEARRAY8"):
            stack.append(bytes(argument))
        elif code in _VALUES:
            stack.append(argument)
        elif code in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif code == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif code in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif code in _CONSTANTS:
            stack.append(_CONSTANTS[code])
        elif code == "MARK":
            self.marks.append(len(stack))
        elif code in _TUPLES:
            stack.append(tuple(self.pop(_TUPLES[code])))
        elif code in ("EMPTY_LIST", "LIST"):
            stack.append([] if code == "EMPTY_LIST" else self.pop(None))
        elif code in ("EMPTY_DICT", "DICT"):
            items = [] if code == "EMPTY_DICT" else self.pop(None)
            stack.append({})
            self.fill(items)
        elif code in ("APPEND", "APPENDS"):
            items = self.pop(1 if code == "APPEND" else None)
            self.target(list).extend(items)
        elif code in ("SETITEM", "SETITEMS"):
            self.fill(self.pop(2 if code == "SETITEM" else None))
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

    def fill(self, items: list[Any]) -> None:
        """Put keys and values into the dictionary on top of the stack."""
        if not all(isinstance(key, bytes | str) for key in items[::2]):
            raise self.refused("a dictionary with keys that are not text")
        self.target(dict).update(zip(items[::2], items[1::2], strict=True))

    def target(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise self.refused(f"to fill a {type(self.stack[-1]).__name__} as a {kind.__name__}")
        return self.stack[-1]

    def admitted(self, name: str) -> _Name:
        if name not in _ADMITTED:
            raise self.refused(name)
        return _Name(name)

    def call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, _Name) or type(arguments) is not tuple:
            raise self.refused(f"to call a {type(function).__name__}")
        first = arguments[0] if arguments else None
        if function.text in _RECONSTRUCT and first == _Name(_NDARRAY):
            return _Array()
        if function.text == _DTYPE:
            code = first.decode("latin-1") if isinstance(first, bytes) else first
            if code not in _NUMBERS:
                raise self.refused(f"an array of dtype {first!r}" if isinstance(code, str) else "a composed dtype")
            return _Kind(code)
        if function.text in _SCALAR and len(arguments) == 2 and isinstance(first, _Kind):
            (value,) = self.array(first, (1,), arguments[1], "C").tolist()
            return value
        if function.text in _FROM_BUFFER and len(arguments) in (4, 5) and isinstance(arguments[1], _Kind):
            _, kind, shape, order, *axes = arguments
            if order not in ("K", b"K") or not axes:
                return _Array(self.array(kind, shape, first, order))
            values = self.array(kind, shape, first, "C")
            if type(axes[0]) is not tuple or sorted(axes[0]) != list(range(values.ndim)):
                raise self.refused("an array with impossible axes")
            return _Array(values.transpose(axes[0]))
        if function.text in _BYTES and not arguments:
            return b""
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
        if isinstance(made, _Kind):
            if len(state) < 5 or any(part is not None for part in state[2:5]):
                raise self.refused("a composed dtype")
            order = state[1].decode("latin-1") if isinstance(state[1], bytes) else state[1]
            if order not in ("<", ">", "|", "="):
                raise self.refused(f"numbers in the order of bytes {str(order)[:10]!r}")
            made.order = "<" if order == "=" else order
        elif isinstance(made, _Array) and made.values is None and len(state) == 5:
            _, shape, kind, fortran, raw = state
            if not isinstance(kind, _Kind):
                raise self.refused("an array that does not hold numbers")
            made.values = self.array(kind, shape, raw, "F" if fortran is True or fortran == 1 else "C")
        else:
            raise self.refused(unknown)

    def array(self, kind: _Kind, shape: Any, raw: Any, order: Any) -> npt.NDArray[Any]:
        """Return the array in these bytes, without a copy of them."""
        if type(raw) is not bytes:
            raise self.refused("an array that does not hold bytes")
        sane = type(shape) is tuple and len(shape) <= _MAX_AXES and all(type(n) is int and n >= 0 for n in shape)
        if not sane or math.prod(shape) * int(kind.code[1]) != len(raw):
            raise DataError(
                f"{self.where} is damaged: its array has {len(raw)} bytes, which is not its shape. "
                "Fetch or make it again."
            )
        if order not in ("C", b"C", "F", b"F"):
            raise self.refused("an array with its axes in an unknown order")
        return kind.read(raw).reshape(shape, order="F" if order in ("F", b"F") else "C")


def _instructions(raw: bytes, where: str, job: Job) -> Iterator[tuple[str, Any]]:
    """Yield the names of the instructions and their arguments, up to the last one; their number is bounded.

    Not `pickletools.genops`: that takes the byte strings of protocol 0 for ASCII.

    Raises:
        DataError: there are too many.
        ValueError: there is no such instruction, or its argument is cut off.
        Cancelled: through `job`.
    """
    stream = io.BytesIO(raw)
    for count in range(MAX_INSTRUCTIONS):
        if count % _EVERY == 0:
            job.checkpoint()
        opcode = _OPCODES.get(stream.read(1).decode("latin-1"))
        if opcode is None:
            raise ValueError("it ends too early" if stream.tell() == len(raw) else "it has an unknown instruction")
        if opcode.name == "STRING":
            quoted = stream.readline().strip()
            if len(quoted) < 2 or quoted[:1] not in b"'\"" or quoted[:1] != quoted[-1:]:
                raise ValueError("a string without its quotes")
            yield opcode.name, codecs.escape_decode(quoted[1:-1])[0]
        else:
            yield opcode.name, None if opcode.arg is None else opcode.arg.reader(stream)
        if opcode.name == "STOP":
            return
    raise DataError(
        f"{where} has more than {MAX_INSTRUCTIONS:,} instructions, and an official batch has 30,000: refused. "
        "Save the labels as one array of numpy."
    )


def read(raw: bytes, where: str, job: Job | None = None) -> dict[bytes, Any]:
    """Return the dictionary in a pickle; text keys come as bytes, arrays as arrays of numbers of any shape.

    Raises:
        DataError: the pickle is damaged, or wants anything a CIFAR-10 batch has no need of.
        Cancelled: through `job`.
    """
    machine = _Machine(where, len(raw))
    try:
        for code, argument in _instructions(raw, where, job or Job()):
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
