"""What is shipped, and which way imports run."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import pockethdr

ROOT = Path(__file__).resolve().parents[1]
# What every room may import, and what imports none of them.
BELOW = ("errors", "files", "cluster")
# Each room with the rooms it may import from, beside itself and what is below all.
MAY_IMPORT = {
    "brackets": set(),
    "models": {"brackets"},
    "calibration": {"brackets", "models", "export"},
    "export": {"brackets", "models", "calibration"},
    "runtime": {"brackets", "export.manifest", "export.quiet", "export.targets", "export.tile"},
    "report": {"brackets", "models", "export", "calibration", "runtime"},
}
WITHOUT_TORCH = ("brackets", "runtime", "pockethdr")
# The operations of the MIL evaluator are torch's; `program` imports them when a package is opened.
OPENED_LATE = re.compile(r"runtime[./]mil[./](?!__init__|program)")


def sources(room: str) -> list[Path]:
    return sorted(p for p in (ROOT / room).rglob("*.py") if "__pycache__" not in p.parts)


def imported(tree: ast.AST, *, everywhere: bool) -> Iterator[str]:
    """Names of imported modules; without `everywhere`, only what importing the file imports."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif everywhere or not (_is_function(node) or _is_type_checking(node)):
            yield from imported(node, everywhere=everywhere)


def _is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def against_the_flow(room: str, source: str) -> list[str]:
    allowed = {room, *MAY_IMPORT[room]}
    names = {
        name.removeprefix("pockethdr.")
        for name in imported(ast.parse(source), everywhere=True)
        if name.startswith("pockethdr.") and name.split(".")[1] in {*MAY_IMPORT, "commands", "cli"}
    }
    return sorted(n for n in names if not any(f"{n}.".startswith(f"{a}.") for a in allowed))


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_no_import_runs_against_the_data_flow(room: str) -> None:
    wrong = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources(room)
        for name in against_the_flow(room, path.read_text(encoding="utf-8"))
        # `from pockethdr.export import manifest` names the room and then the file
        if not any(allowed.startswith(f"{name}.") for allowed in MAY_IMPORT[room])
    }
    assert not wrong


@pytest.mark.parametrize("module", BELOW)
def test_what_is_below_all_imports_no_room(module: str) -> None:
    tree = ast.parse((ROOT / "pockethdr" / f"{module}.py").read_text(encoding="utf-8"))
    ours = {name for name in imported(tree, everywhere=True) if name.startswith("pockethdr.")}
    assert {name.split(".")[1] for name in ours} <= set(BELOW)


def test_the_check_of_the_flow_can_fail() -> None:
    assert against_the_flow("brackets", "from pockethdr.models.zoo import build")
    assert against_the_flow("runtime", "def f():\n import pockethdr.export.trace")
    assert not against_the_flow("report", "from pockethdr.runtime.runner import Runner")


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_no_torch_at_module_level(room: str) -> None:
    guilty = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources(room)
        if not OPENED_LATE.search(path.relative_to(ROOT).as_posix())
        for name in imported(ast.parse(path.read_text(encoding="utf-8")), everywhere=False)
        if name.split(".")[0] == "torch" or OPENED_LATE.search(name)
    ]
    assert not guilty


def test_a_phone_side_host_needs_no_torch() -> None:
    modules = "pockethdr.runtime.fuse, pockethdr.brackets.read, pockethdr.doctor, pockethdr.cli"
    code = f"import sys; sys.modules['torch'] = None\nimport {modules}, pockethdr.export.targets"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_benchmarks_write_whole_files() -> None:
    """A killed run must leave the figures that were there before it."""
    plain = [path.name for path in sources("benchmarks") if ".write_text(" in path.read_text()]
    assert plain == []


def test_import_is_light_and_every_public_name_exists() -> None:
    code = (
        "import sys, time; begin = time.process_time(); import pockethdr\n"
        "assert time.process_time() - begin < 0.1\n"
        "assert not {'numpy', 'torch', 'click'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert all(getattr(pockethdr, name) is not None for name in pockethdr.__all__)
    assert set(pockethdr.__all__) <= set(dir(pockethdr))
    with pytest.raises(AttributeError, match="nothing"):
        _ = pockethdr.nothing


def test_the_table_of_packages_is_the_tree() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    homes = {path.parent for room in (*MAY_IMPORT, "pockethdr") for path in sources(room)}
    names = {".".join(home.relative_to(ROOT).parts) for home in homes}
    prefixed = {n if n.split(".")[0] == "pockethdr" else f"pockethdr.{n}" for n in names}
    assert prefixed == set(listed)


def test_the_lock_holds_every_pin_and_no_place() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    names = [line.split("==")[0] for line in lock.splitlines() if "==" in line]
    assert "torch" not in names
    assert "numpy==2.3.5" in lock
    assert not any(word in lock for word in ("http:", "https:", "file:", "index-url", "find-links"))
    blocks = lock.replace("\\\n", " ").splitlines()
    assert all("--hash=sha256:" in line for line in blocks if line and not line.startswith("#"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy: a build in the tree would leave its folders there."""
    copy, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (copy / name).write_bytes((ROOT / name).read_bytes())
    for room in (*MAY_IMPORT, "pockethdr"):
        (copy / room).symlink_to(ROOT / room)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    done = subprocess.run([*command, str(copy)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return zipfile.ZipFile(next(out.glob("*.whl")))


def test_the_wheel_holds_every_module_and_data_file(wheel: zipfile.ZipFile) -> None:
    shipped = set(wheel.namelist())
    for room in (*MAY_IMPORT, "pockethdr"):
        home = "" if room == "pockethdr" else "pockethdr/"
        wanted = {home + path.relative_to(ROOT).as_posix() for path in sources(room)}
        assert wanted <= shipped
    assert {"pockethdr/py.typed", "pockethdr/report/report.html"} <= shipped
    assert any(name.startswith("pockethdr/brackets/sample/") for name in shipped)
    assert any(name.endswith("LICENSE") for name in shipped)
