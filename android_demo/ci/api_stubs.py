"""Signatures of Android API 36, read from the Python stubs of `chaquopy-stubs-android`.

A stub says `def setColorMode(self, colorMode: int | java.jint | java.lang.Integer, /)`; the JVM
says `(I)V`. Return types do not take part: the stubs leave them ambiguous.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

_PRIMITIVES = {
    "java.jint": "I",
    "java.jlong": "J",
    "java.jfloat": "F",
    "java.jdouble": "D",
    "java.jboolean": "Z",
    "java.jbyte": "B",
    "java.jshort": "S",
    "java.jchar": "C",
}
_ARRAYS = {
    "Byte": "[B", "Int": "[I", "Float": "[F", "Long": "[J",
    "Double": "[D", "Short": "[S", "Char": "[C", "Boolean": "[Z",
}  # fmt: skip


class ApiStubs:
    """The classes of API 36 by their JVM names, e.g. `android/os/Build$VERSION_CODES`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def declares(self, owner: str, member: str, descriptor: str) -> str | None:
        """The class that declares a member, `owner` or one above it; None when there is none.

        Args:
            member: a name, `<init>` for constructors.
            descriptor: of a method `(…)…`, or of a field.
        """
        package, found = self._class(owner)
        if found is None:
            return None
        if any(self._matches(node, package, member, descriptor) for node in found.body):
            return owner
        supers = (self._name(base, package) for base in found.bases)
        return next((up for s in supers if (up := self.declares(s, member, descriptor))), None)

    def _matches(self, node: ast.stmt, package: str, member: str, descriptor: str) -> bool:
        if not descriptor.startswith("("):
            named = isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
            return named and node.target.id == member  # type: ignore[union-attr]
        if not isinstance(node, ast.FunctionDef):
            return False
        if node.name != ("__init__" if member == "<init>" else member):
            return False
        wanted = arguments_of(descriptor)
        found = [self._descriptors(annotation, package) for annotation in _parameters(node)]
        return len(found) == len(wanted) and all(
            _fits(type_, wish) for type_, wish in zip(found, wanted, strict=True)
        )

    def _descriptors(self, annotation: ast.expr, package: str) -> set[str]:
        """What the parameter may be in the JVM: a stub accepts several Python types for one."""
        if isinstance(annotation, ast.BinOp):
            return self._descriptors(annotation.left, package) | self._descriptors(
                annotation.right, package
            )
        if isinstance(annotation, ast.Starred):
            return self._descriptors(annotation.value, package)
        name = _dotted(annotation)
        if name in _PRIMITIVES:
            return {_PRIMITIVES[name]}
        array = re.fullmatch(r"java\.chaquopy\.JavaArrayJ(\w+)", name)
        if array:
            return {_ARRAYS[array[1]]}
        if name == "java.chaquopy.JavaArray" and isinstance(annotation, ast.Subscript):
            return {"[" + d for d in self._descriptors(annotation.slice, package)}
        if name == "typing.Type":
            return {"Ljava/lang/Class;"}
        return {f"L{self._name(annotation, package)};"}

    def _name(self, expression: ast.expr, package: str) -> str:
        """The JVM name that a dotted name means inside `package`."""
        parts = _dotted(expression).split(".")
        for split in range(len(parts), -1, -1):
            module, inner = ".".join(parts[:split]) or package, "$".join(parts[split:])
            if inner and inner in self._classes(module):
                return f"{module}.{inner}".replace(".", "/")
        return "/".join(parts)

    def _class(self, jvm_name: str) -> tuple[str, ast.ClassDef | None]:
        package, _, name = jvm_name.replace("/", ".").rpartition(".")
        return package, self._classes(package).get(name)

    @functools.cache  # noqa: B019 — one object for the whole run
    def _classes(self, package: str) -> dict[str, ast.ClassDef]:
        top, *rest = package.split(".")
        file = self._folder.joinpath(f"{top}-stubs", *rest, "__init__.pyi")
        if not file.is_file():
            return {}
        return dict(_nested(ast.parse(file.read_text()).body, ""))


def arguments_of(descriptor: str) -> list[str]:
    """`(ILjava/lang/String;[F)V` → `["I", "Ljava/lang/String;", "[F"]`."""
    return re.findall(r"\[*(?:L[^;]+;|[A-Z])", descriptor[1 : descriptor.index(")")])


def _fits(found: set[str], wanted: str) -> bool:
    if wanted in found:
        return True
    # A type variable is an object to the JVM.
    return wanted == "Ljava/lang/Object;" and any("/" not in name for name in found)


def _parameters(function: ast.FunctionDef) -> list[ast.expr]:
    static = any(_dotted(d) == "staticmethod" for d in function.decorator_list)
    given = [*function.args.posonlyargs, *function.args.args][0 if static else 1 :]
    found = [parameter.annotation for parameter in given if parameter.annotation is not None]
    rest = function.args.vararg
    if rest is not None and rest.annotation is not None:
        array = ast.Subscript(
            ast.parse("java.chaquopy.JavaArray", mode="eval").body, rest.annotation
        )
        found.append(array)
    return found


def _nested(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.ClassDef]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield prefix + node.name, node
            yield from _nested(node.body, f"{prefix}{node.name}$")


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Subscript):
        return _dotted(node.value)
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    if isinstance(node, ast.Constant):
        return str(node.value)
    return node.id if isinstance(node, ast.Name) else "?"
