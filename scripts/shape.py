"""How simple the package is: sizes of files, classes and functions, parameters, import cycles and rooms.

Prints each figure beside its limit, names what is over it, and exits with 1 if anything is.
"""

from __future__ import annotations

import ast
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parent.parent / "trt_dp"
MOST_TOP, MOST_FILE, MOST_FUNCTION, MOST_METHODS, MOST_PARAMETERS = 9, 350, 30, 12, 5
USUAL_FUNCTION, LONG_FUNCTION = 8, 20
MOST_FREE = 60  # lines of a function that hands on many options
FREE = ("cli", "api.py")  # a command's options, and the API's, are its parameters

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Found(NamedTuple):
    """A figure, its limit, and what is over it."""

    what: str
    figure: str
    limit: str
    over: list[str]


def main() -> int:
    """Print the figures; 1 if one is over its limit."""
    trees = {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
    found = [*rooms(trees), *files(trees), *functions(trees), *classes(trees)]
    found += [parameters(trees), built_by_place(trees), cycles(trees)]
    for each in found:
        print(f"{each.what:32}{each.figure:>10}   limit {each.limit}")
        for name in each.over:
            print(f"    over: {name}")
    return int(any(each.over for each in found))


def rooms(trees: dict[Path, ast.Module]) -> Iterator[Found]:
    """The modules on top, and the rooms."""
    top = [path.name for path in trees if path.parent == PACKAGE]
    yield Found("modules on top", str(len(top)), str(MOST_TOP), top if len(top) > MOST_TOP else [])
    folders = {path.relative_to(PACKAGE).parts[0] for path in trees if path.parent != PACKAGE}
    yield Found("rooms", str(len(folders)), "-", [])


def files(trees: dict[Path, ast.Module]) -> Iterator[Found]:
    """The lines of each file."""
    lines = {path: len(path.read_text().splitlines()) for path in trees}
    over = [f"{name(path)}: {count} lines" for path, count in lines.items() if count > MOST_FILE]
    yield Found("files", str(len(lines)), "-", [])
    yield Found("longest file", str(max(lines.values())), str(MOST_FILE), over)


def functions(trees: dict[Path, ast.Module]) -> Iterator[Found]:
    """The lines of each function, its docstring included, but not its parameters in the CLI."""
    sizes, over = [], []
    for path, each in every(trees):
        sizes.append(size(path, each))
        if sizes[-1] > (MOST_FREE if free(path, each) else MOST_FUNCTION):
            over.append(f"{name(path)}:{each.lineno} {each.name}: {sizes[-1]} lines")
    ordered = sorted(sizes)
    usual, long = int(statistics.median(ordered)), ordered[int(len(ordered) * 0.95)]
    yield Found(
        "function length, median", str(usual), str(USUAL_FUNCTION), too_long(usual, USUAL_FUNCTION)
    )
    yield Found(
        "function length, 95 %", str(long), str(LONG_FUNCTION), too_long(long, LONG_FUNCTION)
    )
    yield Found("longest function", str(ordered[-1]), f"{MOST_FUNCTION} ({MOST_FREE})", over)


def classes(trees: dict[Path, ast.Module]) -> Iterator[Found]:
    """The methods of each class, properties included, constructors not; the pool once had too many."""
    counts = {
        each.name: sum(isinstance(one, Function) and one.name != "__init__" for one in each.body)
        for tree in trees.values()
        for each in ast.walk(tree)
        if isinstance(each, ast.ClassDef)
    }
    largest = max(counts, key=lambda each: counts[each])
    yield Found("most methods of a class", str(counts[largest]), f"- ({largest})", [])
    over = ["Pool"] if counts["Pool"] > MOST_METHODS else []
    yield Found("methods of Pool", str(counts["Pool"]), str(MOST_METHODS), over)


def parameters(trees: dict[Path, ast.Module]) -> Found:
    """The parameters of each function but those of commands, the API and engines' constructors."""
    counts = {
        f"{name(path)}:{each.lineno} {each.name}": count(each)
        for path, each in every(trees)
        if not free(path, each)
    }
    over = [f"{where}: {many}" for where, many in counts.items() if many > MOST_PARAMETERS]
    return Found("most parameters", str(max(counts.values())), str(MOST_PARAMETERS), over)


def built_by_place(trees: dict[Path, ast.Module]) -> Found:
    """Calls that build a struct of more than three fields from more than two values without names."""
    structs = {
        (module(path), each.name)
        for path, tree in trees.items()
        for each in ast.walk(tree)
        if large(each)
    }
    over = [
        f"{name(path)}:{each.lineno} {each.func.id}"
        for path, tree in trees.items()
        for each in ast.walk(tree)
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Name)
        if len(each.args) > 2 and (origin(path, tree, each.func.id), each.func.id) in structs
    ]
    return Found("large structs built by place", str(len(over)), "0", over)


def origin(path: Path, tree: ast.Module, wanted: str) -> str:
    """The module that a name in a file comes from."""
    for each in tree.body:
        if isinstance(each, ast.ImportFrom) and wanted in {alias.name for alias in each.names}:
            return str(each.module)
    return module(path)


def large(each: ast.AST) -> bool:
    """Whether this declares a struct of more than three fields."""
    if not isinstance(each, ast.ClassDef):
        return False
    struct = any(isinstance(base, ast.Name) and base.id == "Struct" for base in each.bases)
    return struct and sum(isinstance(one, ast.AnnAssign) for one in each.body) > 3


def cycles(trees: dict[Path, ast.Module]) -> Found:
    """Modules that import each other, directly or through others."""
    modules = {module(path): tree for path, tree in trees.items()}
    reach = {each: imported(tree, modules.keys()) for each, tree in modules.items()}
    grown = True
    while grown:
        grown = False
        for each, known in reach.items():
            more = set().union(*(reach[one] for one in known)) - known
            grown = grown or bool(more)
            reach[each] = known | more
    over = sorted(each for each, known in reach.items() if each in known)
    return Found("modules in import cycles", str(len(over)), "0", over)


def imported(tree: ast.Module, modules: set[str]) -> set[str]:
    """The package's modules that this one imports when it is imported itself."""
    names: set[str] = set()
    for each in tree.body:
        if isinstance(each, ast.Import):
            names |= {alias.name for alias in each.names}
        if isinstance(each, ast.ImportFrom):
            inner = {f"{each.module}.{alias.name}" for alias in each.names} & modules
            names |= inner or {str(each.module)}
    return names & modules


def every(trees: dict[Path, ast.Module]) -> Iterator[tuple[Path, Function]]:
    """Every function and method."""
    for path, tree in trees.items():
        yield from ((path, each) for each in ast.walk(tree) if isinstance(each, Function))


def size(path: Path, each: Function) -> int:
    """The lines of a function; those of a command's parameters are its help, not code."""
    first = each.body[0].lineno if free(path, each) else each.lineno
    return (each.end_lineno or each.lineno) - first + 1


def count(each: Function) -> int:
    """The parameters of a function, without self and cls."""
    given = each.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len([one for one in names if one not in ("self", "cls")])


def free(path: Path, each: Function) -> bool:
    """Whether a function may have as many parameters as it needs."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0] in FREE or (parts[0] == "engines" and each.name == "__init__")


def too_long(figure: int, limit: int) -> list[str]:
    """What to print where a figure is over its limit."""
    return [f"{figure} lines"] if figure > limit else []


def module(path: Path) -> str:
    """The name by which a file is imported."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def name(path: Path) -> str:
    """A file as it is named from the top."""
    return str(path.relative_to(PACKAGE.parent))


if __name__ == "__main__":
    sys.exit(main())
