"""Who imports whom, read from the source: the graph, its floors and its circles."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet

Graph = Mapping[str, AbstractSet[str]]


def imports(trees: Mapping[str, ast.Module], *, inside_functions: bool) -> dict[str, frozenset[str]]:
    """The modules among `trees` that each imports when it runs; what only a type checker reads is left out."""
    return {
        name: frozenset(
            known
            for node in _statements(tree, inside_functions)
            for target in _targets(node, name)
            if (known := _known(target, trees)) and known != name
        )
        for name, tree in trees.items()
    }


def _statements(tree: ast.AST, inside_functions: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.expr) or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            continue  # no statement stands in an expression, which most of a tree is
        elif inside_functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _statements(node, inside_functions)


def _targets(node: ast.Import | ast.ImportFrom, importer: str) -> list[str]:
    """What is named, as deep as it might be a module: `from a import b` is a.b, or a where b is a name in it."""
    if isinstance(node, ast.Import):
        return [one.name for one in node.names]
    base = node.module or ""
    if node.level:
        base = ".".join([*importer.split(".")[: -node.level], *filter(None, [node.module])])
    return [f"{base}.{one.name}" for one in node.names]


def _known(target: str, trees: Mapping[str, ast.Module]) -> str | None:
    for name in (target, target.rpartition(".")[0]):
        if name in trees:
            return name
    return None


def inside(graph: Graph, package: str) -> dict[str, frozenset[str]]:
    """The package's own modules, and what they import of each other."""
    names = {name for name in graph if name == package or name.startswith(f"{package}.")}
    return {name: frozenset(graph[name] & names) for name in names}


def rooms(graph: Graph, package: str) -> dict[str, frozenset[str]]:
    """The same between the package's rooms: its sub-packages, and the modules that lie directly in it."""

    def room(name: str) -> str:
        return ".".join(name.split(".")[:2])

    found: dict[str, set[str]] = {}
    for name, others in inside(graph, package).items():
        if name != package:
            targets = {room(other) for other in others if other != package} - {room(name)}
            found.setdefault(room(name), set()).update(targets)
    return {name: frozenset(others) for name, others in found.items()}


def arrows(graph: Graph) -> int:
    """How many import another, counted once each."""
    return sum(len(others) for others in graph.values())


def cycles(graph: Graph) -> list[list[str]]:
    """Groups in which each reaches each other (Kosaraju: a second walk backwards, in the order of the first)."""
    backwards: dict[str, set[str]] = {name: set() for name in graph}
    for name, others in graph.items():
        for other in others:
            backwards[other].add(name)
    seen: set[str] = set()
    order = list(itertools.chain.from_iterable(_walk(name, graph, seen) for name in graph))
    seen = set()
    groups = [list(_walk(name, backwards, seen)) for name in reversed(order)]
    return sorted(sorted(group) for group in groups if len(group) > 1)


def _walk(name: str, graph: Graph, seen: set[str]) -> Iterator[str]:
    """All that were not seen and can be reached, each after what it leads to."""
    if name in seen:
        return
    seen.add(name)
    for other in sorted(graph[name]):
        yield from _walk(other, graph, seen)
    yield name


def floors(graph: Graph) -> int:
    """The longest way down, in modules. A circle has no floors: its members count as one."""
    member = {name: group[0] for group in cycles(graph) for name in group}
    depth: dict[str, int] = {}

    def below(name: str) -> int:
        if name not in depth:
            depth[name] = 0
            group = [one for one in graph if member.get(one, one) == name]
            others = {member.get(other, other) for one in group for other in graph[one]} - {name}
            depth[name] = 1 + max(map(below, others), default=0)
        return depth[name]

    return max((below(member.get(name, name)) for name in graph), default=0)
