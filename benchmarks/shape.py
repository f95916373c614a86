"""How the code is cut: lengths of files, functions and classes, modules per room, and who imports whom.

    python -m benchmarks.shape

It reads the source alone (tests left out), prints each figure beside its goal, and names what is over.
"""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.import_graph import Graph, arrows, cycles, floors, imports, inside, rooms

ROOT = Path(__file__).parent.parent
PACKAGES = ("tuner", "loadtest", "search_spaces", "runners", "results", "training")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_CLASS_LINES = 150
MAX_CLASS_FIELDS = 12
MAX_ROOM_MODULES = 14
MAX_FLOORS = 10
# A document's fields are a contract with other programs (a JSON file, the spec's YAML): as many as it promises.
DOCUMENTS = frozenset({"Document", "Record", "Section"})
# So are those of a plain value that mirrors something outside field by field. Each is printed with its reason.
MIRRORS = {
    "runners.protocol.Container": "what a runner is given, other people's runners too",
    "runners.kubernetes.options.KubernetesOptions": "the spec's keys under runner.kubernetes, one each",
    "tuner.commands.run.RunOptions": "the options of the main job on the command line, one each",
    "training.servers.server.Server": "the parameters of simulate.c, in its order",
}
# What a launched server has to have by the seam's protocol is the seam's, whichever runner has it.
SEAM = ("runners.protocol", "Endpoint")


@dataclass(frozen=True)
class Measured:
    """One thing with a length: where it is, and how long."""

    place: str
    size: int


@dataclass(frozen=True)
class Sizes:
    """Everything of one kind, with its goals: at most, and at the median and for 90% where there are such goals."""

    what: str
    found: tuple[Measured, ...]
    goal_max: int
    goal_median: int | None = None
    goal_90: int | None = None

    def line(self) -> str:
        sizes = [one.size for one in self.found]
        parts = (
            f"median {statistics.median(sizes):g}{_goal(self.goal_median)}",
            f"90% {_quantile(sizes, 0.9)}{_goal(self.goal_90)}",
            f"most {max(sizes)}{_goal(self.goal_max)}",
        )
        return f"{self.what} ({len(sizes)}): {', '.join(parts)}"

    def over(self) -> Iterator[str]:
        for one in sorted(self.found, key=lambda one: -one.size):
            if one.size > self.goal_max:
                yield f"  {one.place}: {one.size}, of at most {self.goal_max} ({self.what})"


def _goal(goal: int | None) -> str:
    return "" if goal is None else f" (goal {goal})"


def _quantile(sizes: Iterable[int], share: float) -> int:
    """The smallest size that this share of all do not exceed."""
    ordered = sorted(sizes)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def sources() -> dict[str, ast.Module]:
    """Every module's tree by its dotted name; a package goes by its own."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if ".venv" not in path.parts:
                parts = path.relative_to(ROOT).with_suffix("").parts
                name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
                found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def path_of(name: str) -> Path:
    """The file of a module."""
    path = ROOT.joinpath(*name.split("."))
    package = path / "__init__.py"
    return package if package.is_file() else path.with_suffix(".py")


def files(trees: Mapping[str, ast.Module]) -> tuple[Measured, ...]:
    """Lines of each file."""
    paths = [path_of(name) for name in trees]
    return tuple(
        Measured(str(path.relative_to(ROOT)), len(path.read_text(encoding="utf-8").splitlines())) for path in paths
    )


def functions(trees: Mapping[str, ast.Module]) -> tuple[Measured, ...]:
    """Lines of each function and method, from `def` to its end."""
    return tuple(
        Measured(f"{name}.{node.name}", _lines(node))
        for name, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def classes(trees: Mapping[str, ast.Module]) -> list[tuple[str, ast.ClassDef]]:
    """Each class with the module that it is in."""
    return [(name, node) for name, tree in trees.items() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


def fields(node: ast.ClassDef) -> frozenset[str]:
    """Names annotated in the class's body, and those that `__init__` sets on self; class variables are none."""
    names: set[str] = set()
    for one in node.body:
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
            if "ClassVar" not in ast.unparse(one.annotation):
                names.add(one.target.id)
        elif isinstance(one, ast.FunctionDef) and one.name == "__init__":
            names |= {
                target.attr for target in ast.walk(one)
                if isinstance(target, ast.Attribute) and isinstance(target.ctx, ast.Store)
                and isinstance(target.value, ast.Name) and target.value.id == "self"
            }  # fmt: skip
    return frozenset(names)


def methods(node: ast.ClassDef) -> frozenset[str]:
    """Names of its methods and properties."""
    return frozenset(one.name for one in node.body if isinstance(one, ast.FunctionDef))


def own_fields(node: ast.ClassDef, seam: frozenset[str]) -> int:
    """How many fields it has of its own: without the seam's, where it is an implementation of that."""
    found = fields(node)
    return len(found - seam if seam <= found | methods(node) else found)


def is_document(node: ast.ClassDef) -> bool:
    """Whether it mirrors a file's keys."""
    return any(isinstance(base, ast.Name) and base.id in DOCUMENTS for base in node.bases)


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def room_sizes(trees: Mapping[str, ast.Module]) -> tuple[Measured, ...]:
    """Modules that lie directly in each folder; the folder's own `__init__.py` is none of them."""
    counts: dict[str, int] = {}
    for name in trees:
        if path_of(name).name != "__init__.py":
            room = name.rpartition(".")[0]
            counts[room] = counts.get(room, 0) + 1
    return tuple(Measured(room.replace(".", "/") + "/", count) for room, count in sorted(counts.items()))


def main() -> None:
    trees = sources()
    found = classes(trees)
    seam = next(methods(one) for name, one in found if (name, one.name) == SEAM)
    sizes = (
        Sizes("lines of a file", files(trees), MAX_FILE_LINES, 150),
        Sizes("lines of a function", functions(trees), MAX_FUNCTION_LINES, 10, 35),
        Sizes("lines of a class", tuple(Measured(f"{name}.{one.name}", _lines(one)) for name, one in found),
              MAX_CLASS_LINES),
        Sizes("fields of a class", tuple(Measured(f"{name}.{one.name}", own_fields(one, seam)) for name, one in found
                                         if not is_document(one) and f"{name}.{one.name}" not in MIRRORS),
              MAX_CLASS_FIELDS),
        Sizes("modules of a room", room_sizes(trees), MAX_ROOM_MODULES),
    )  # fmt: skip
    for one in sizes:
        print(one.line())
    print("rooms: " + ", ".join(f"{one.place} {one.size}" for one in sizes[-1].found))
    at_start, anywhere = imports(trees, inside_functions=False), imports(trees, inside_functions=True)
    _tuner(anywhere)
    for what, graph in (("at start-up", at_start), ("inside functions too", anywhere)):
        circles = cycles(graph)
        print(f"import cycles {what}: {len(circles)} (goal 0)" + "".join(f"\n  {', '.join(one)}" for one in circles))
    documents = [len(fields(one)) for _, one in found if is_document(one)]
    print(
        f"fields of a document ({len(documents)}): median {statistics.median(documents):g}, most {max(documents)} "
        "(no goal: each is a key of a JSON file or of the spec, which other programs rely on)"
    )
    print("fields of a plain value that mirrors something outside (no goal):")
    for name, node in found:
        if why := MIRRORS.get(f"{name}.{node.name}"):
            print(f"  {name}.{node.name}: {len(fields(node))}, {why}")
    print(f"fields of a launched server: without the {len(seam)} that {'.'.join(SEAM)} asks for")
    over = [line for one in sizes for line in one.over()]
    print("over their goals:" if over else "nothing is over its goal", *over, sep="\n")


def _tuner(graph: Graph) -> None:
    between, modules = rooms(graph, "tuner"), inside(graph, "tuner")
    print(
        f"inside tuner/: {len(between)} rooms on {floors(between)} floors (goal {MAX_FLOORS}) with {arrows(between)} "
        f"arrows; {len(modules)} modules on {floors(modules)} floors with {arrows(modules)} imports"
    )


if __name__ == "__main__":
    main()
