"""Writes what networks, optimizers and schedulers of a trainer take, as JSON, read from their source. Imports none.

    cd SD-SCRIPTS && TRAINER-PYTHON dump_signatures.py FOLDER [PACKAGES...]

signatures.json has the arguments of each network module of sd-scripts and of LyCORIS, of each LyCORIS algorithm, and of
each optimizer and scheduler class in the packages. PACKAGES are further folders of packages to read.
"""

import ast
import copy
import json
import sys
import sysconfig
from pathlib import Path

PACKAGES = (
    "torch.optim", "bitsandbytes", "pytorch_optimizer", "prodigyopt", "dadaptation", "lion_pytorch", "schedulefree",
    "prodigyplus", "transformers.optimization",
)  # fmt: skip
OPTIMIZER, SCHEDULER = "torch.optim.optimizer.Optimizer", "torch.optim.lr_scheduler.LRScheduler"
SD_UNET_BLOCK = "Transformer2DModel"  # of the UNets of SD1.5, SD2 and SDXL; networks for other models look for others
MODEL_SOURCES = ("library.original_unet", "library.sdxl_original_unet", "transformers.models.clip.modeling_clip")
FROM_WEIGHTS = "create_network_from_weights"  # takes what is in a file
UNKNOWN = object()
MAX_DEPTH = 6


class Sources:
    """The modules that can be imported from some folders, parsed and never run."""

    def __init__(self, folders):
        self.folders = [Path(folder) for folder in folders if folder and Path(folder).is_dir()]
        self.parsed, self.paths, self.named = {}, {}, {}

    def path(self, module):
        if module not in self.paths:
            self.paths[module] = self.find(module)
        return self.paths[module]

    def find(self, module):
        inner = Path(*module.split("."))
        for folder in self.folders:
            for path in (folder / inner / "__init__.py", folder / inner.with_suffix(".py")):
                if path.is_file():
                    return path
        return None

    def tree(self, module):
        if module not in self.parsed:
            path = self.path(module)
            try:
                self.parsed[module] = ast.parse(path.read_bytes()) if path else None
            except (OSError, SyntaxError, ValueError, RecursionError):
                self.parsed[module] = None
        return self.parsed[module]

    def names(self, module):
        """Every name that a module's own statements give to a class, a function or something imported."""
        if module not in self.named:
            self.named[module] = {}  # while it is read: modules import each other
            self.named[module] = self.read_names(module)
        return self.named[module]

    def read_names(self, module):
        tree, found = self.tree(module), {}
        for node in iter_statements(tree.body if tree else ()):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                found[node.name] = (module, node)
            elif isinstance(node, ast.ImportFrom):
                source = self.imported_module(module, node)
                for alias in node.names:
                    if alias.name == "*":
                        found |= {name: (source, name) for name in self.names(source) if not name.startswith("_")}
                    else:
                        found[alias.asname or alias.name] = (source, alias.name)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.name.partition(".")[0]
                    found[alias.asname or top] = (alias.name if alias.asname else top, None)
        return found

    def imported_module(self, module, node):
        if not node.level:
            return node.module or ""
        path = self.path(module)
        parts = module.split(".")
        base = parts if path and path.name == "__init__.py" else parts[:-1]
        base = base[: len(base) - node.level + 1]
        return ".".join([*base, *([node.module] if node.module else [])])

    def resolve(self, module, dotted, depth=0):
        """The module and definition that a dotted name in a module refers to, or None."""
        head, _, rest = dotted.partition(".")
        found = self.names(module).get(head)
        if depth > MAX_DEPTH or found is None:
            return None
        source, what = found
        if isinstance(what, ast.AST):
            return None if rest else (source, what)
        if what is None:  # import package.module
            return self.resolve_path(f"{source}.{rest}", depth + 1) if rest else None
        if self.path(f"{source}.{what}") and what not in self.names(source):
            return self.resolve_path(f"{source}.{what}.{rest}", depth + 1) if rest else None
        return self.resolve(source, what + (f".{rest}" if rest else ""), depth + 1)

    def resolve_path(self, dotted, depth=0):
        """What an absolute dotted path refers to: the longest part of it that is a module, and a name in that."""
        parts = dotted.split(".")
        for count in range(len(parts) - 1, 0, -1):
            module = ".".join(parts[:count])
            if self.path(module):
                return self.resolve(module, ".".join(parts[count:]), depth)
        return None

    def submodules(self, package):
        path = self.path(package)
        if path is None:
            return []
        if path.name != "__init__.py":
            return [package]
        found = []
        for file in sorted(path.parent.rglob("*.py")):
            parts = file.relative_to(path.parent).with_suffix("").parts
            found.append(".".join([package, *(parts[:-1] if parts[-1] == "__init__" else parts)]))
        return found


def iter_statements(body):
    """Statements of a module, those within if and try, too."""
    for node in body:
        yield node
        for inner in ("body", "orelse", "handlers", "finalbody"):
            if isinstance(node, (ast.If, ast.Try, ast.ExceptHandler)):
                yield from iter_statements(getattr(node, inner, ()))


def dotted_name(node):
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = dotted_name(node.value)
        return f"{inner}.{node.attr}" if inner else None
    return None


def literal(node):
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError):
        return UNKNOWN


class Classes:
    """Classes by their definition, with what they inherit."""

    def __init__(self, sources):
        self.sources = sources

    def bases(self, module, node):
        for base in node.bases:
            name = dotted_name(base.value if isinstance(base, ast.Subscript) else base)
            found = self.sources.resolve(module, name) if name else None
            if found and isinstance(found[1], ast.ClassDef):
                yield found

    def inherits(self, module, node, root, depth=0):
        if f"{module}.{node.name}" == root:
            return True
        return depth < MAX_DEPTH and any(
            self.inherits(*base, root, depth + 1) for base in self.bases(module, node) if base[1] is not node
        )

    def method(self, module, node, name, depth=0):
        """A method with the class that defines it: the class itself or one that it inherits from."""
        own = next((each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == name), None)
        if own is not None:
            return module, node, own
        if depth < MAX_DEPTH:
            for base in self.bases(module, node):
                found = self.method(*base, name, depth + 1)
                if found:
                    return found
        return None

    def inherited_method(self, module, node, name):
        for base in self.bases(module, node):
            found = self.method(*base, name)
            if found:
                return found
        return None


def parameters(function, skip):
    """What a function takes by name: each with its kinds, its default, and whether it has to be given."""
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(positional) - len(given.defaults)) + list(given.defaults)
    pairs = [*zip(positional, defaults), *zip(given.kwonlyargs, given.kw_defaults)]
    return [parameter(arg, default) for arg, default in pairs if arg.arg not in skip]


def parameter(arg, default):
    value = UNKNOWN if default is None else literal(default)
    kinds, choices = annotated_kinds(arg.annotation)
    found = {"name": arg.arg}
    if isinstance(value, (tuple, list)) and kinds <= {"list"}:
        found["kinds"], found["length"] = ["list"], len(value)
    elif kinds:
        found["kinds"] = sorted(kinds)
        if isinstance(value, (tuple, list)) and not has_several_shapes(arg.annotation):
            found["length"] = len(value)
    elif isinstance(value, bool):
        found["kinds"] = ["bool"]
    elif isinstance(value, (int, float)):
        found["kinds"] = ["float"]
    elif isinstance(value, str):
        found["kinds"] = ["str"]
    if choices:
        found["choices"] = choices
    if default is None:
        found["required"] = True
    elif isinstance(value, (bool, int, float, str, tuple, list)):
        found["default"] = value
    return found


KIND_BY_NAME = {
    "bool": "bool", "int": "int", "float": "float", "str": "str", "Tuple": "list", "tuple": "list", "List": "list",
    "list": "list", "Sequence": "list", "Iterable": "list", "Betas": "list", "Betas2": "list", "Betas3": "list",
}  # fmt: skip
NEUTRAL = {"Optional", "Union", "None", "Tensor", "torch", "typing"}


def annotated_kinds(node, depth=0):
    """The kinds that an annotation names, and the choices of a Literal; empty if a part of it is not known here."""
    if node is None:
        return set(), []
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str) and depth == 0:
            try:
                return annotated_kinds(ast.parse(node.value, mode="eval").body, depth + 1)
            except SyntaxError:
                return set(), []
        return set(), []
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return merge_kinds([node.left, node.right], depth)
    name = (dotted_name(node.value if isinstance(node, ast.Subscript) else node) or "").rpartition(".")[2]
    if isinstance(node, ast.Subscript):
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if name == "Literal":
            words = [literal(each) for each in inner]
            return ({"str"}, words) if all(isinstance(word, str) for word in words) else (set(), [])
        if name in ("Optional", "Union"):
            return merge_kinds(inner, depth)
    return ({KIND_BY_NAME[name]} if name in KIND_BY_NAME else set()), []


def merge_kinds(nodes, depth):
    kinds, choices = set(), []
    for node in nodes:
        name = (dotted_name(node) or "").rpartition(".")[2]
        if name in NEUTRAL or (isinstance(node, ast.Constant) and node.value is None):
            continue
        more, words = annotated_kinds(node, depth + 1)
        if not more:
            return set(), []
        kinds |= more
        choices += words
    return kinds, choices


def has_several_shapes(annotation):
    return annotation is not None and ast.unparse(annotation).count("uple") + ast.unparse(annotation).count("Betas") > 1


class Checks:
    """The conditions under which building a class raises, as expressions of its parameters.

    Calls of its own and inherited methods are followed, with their arguments in place of the parameter names.
    """

    def __init__(self, classes, module, node):
        self.classes, self.found = classes, []
        self.module, self.node = module, node

    def walk(self, owner, body, bound, path, depth):
        for each in body:
            if isinstance(each, ast.Raise):
                self.found.append(" and ".join(f"({condition})" for condition in path) or "True")
            elif isinstance(each, ast.If):
                test = self.bind(each.test, bound)
                self.walk(owner, each.body, bound, [*path, test], depth)
                self.walk(owner, each.orelse, bound, [*path, f"not ({test})"], depth)
                if any(isinstance(inner, ast.Return) for inner in each.body):
                    path = [*path, f"not ({test})"]
            elif isinstance(each, ast.For):
                self.walk_loop(owner, each, bound, path, depth)
            elif isinstance(each, ast.Expr) and isinstance(each.value, ast.Call):
                self.follow(owner, each.value, bound, path, depth)
            elif isinstance(each, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
                for name in ast.walk(each):
                    if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store) and name.id in bound:
                        bound = {**bound, name.id: None}  # has another value from here on

    def walk_loop(self, owner, loop, bound, path, depth):
        """``for i in range(len(betas))`` and ``for beta in betas``."""
        called = loop.iter
        over = called.args[0] if isinstance(called, ast.Call) and called.args else called
        over = over.args[0] if isinstance(over, ast.Call) and over.args else over
        if not (isinstance(over, ast.Name) and isinstance(loop.target, ast.Name) and over.id in bound):
            return
        for at in range(3):
            item = (
                ast.Constant(at) if isinstance(called, ast.Call) else ast.Subscript(over, ast.Constant(at), ast.Load())
            )
            item = item if isinstance(called, ast.Call) else ast.parse(self.bind(item, bound), mode="eval").body
            self.walk(owner, loop.body, {**bound, loop.target.id: item}, path, depth + 1)

    def follow(self, owner, call, bound, path, depth):
        target = call.func
        if depth > MAX_DEPTH or not isinstance(target, ast.Attribute):
            return
        if isinstance(target.value, ast.Name) and target.value.id == "self":
            found = self.classes.method(self.module, self.node, target.attr)
        elif isinstance(target.value, ast.Call) and dotted_name(target.value.func) == "super":
            found = self.classes.inherited_method(*owner, target.attr)
        else:
            return
        if found is None or any(isinstance(each, ast.Starred) for each in call.args):
            return
        module, node, method = found
        args = method.args
        static = any(dotted_name(each) == "staticmethod" for each in method.decorator_list)
        names = [arg.arg for arg in [*args.posonlyargs, *args.args]][0 if static else 1 :]
        inner = {arg.arg: None for arg in [*args.posonlyargs, *args.args, *args.kwonlyargs]}
        values = dict(zip(names[len(names) - len(args.defaults) :], args.defaults)) if args.defaults else {}
        values |= {arg.arg: value for arg, value in zip(args.kwonlyargs, args.kw_defaults) if value is not None}
        inner |= {name: ast.Constant(literal(value)) for name, value in values.items() if literal(value) is not UNKNOWN}
        given = [*zip(names, call.args), *((word.arg, word.value) for word in call.keywords if word.arg)]
        for name, value in given:
            inner[name] = ast.parse(self.bind(value, bound), mode="eval").body
        self.walk((module, node), method.body, inner, path, depth + 1)

    def bind(self, expression, bound):
        """An expression with its names replaced by their values; a name without a value becomes ``_``."""

        class Binder(ast.NodeTransformer):
            def visit_Name(self, name):
                if name.id not in bound:
                    return (
                        name if name.id in {"len", "isinstance", "str", "int", "float"} else ast.Name("_", ast.Load())
                    )
                return copy.deepcopy(bound[name.id]) or ast.Name("_", ast.Load())

        return ast.unparse(ast.fix_missing_locations(Binder().visit(copy.deepcopy(expression))))


SIMPLE = (
    ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.Compare, ast.Lt, ast.LtE, ast.Gt,
    ast.GtE, ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn, ast.Constant, ast.Name, ast.Load, ast.Subscript,
    ast.Tuple, ast.List, ast.Set,
)  # fmt: skip


def is_simple(condition, names):
    """Whether a condition is made of comparisons of parameters and numbers alone, and of at least one parameter."""
    nodes = list(ast.walk(ast.parse(condition, mode="eval")))
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    return all(isinstance(node, SIMPLE) for node in nodes) and used <= names and bool(used)


def simplify(condition):
    """A condition without the parts that compare constants with each other; None if it is never true."""

    class Simplifier(ast.NodeTransformer):
        def visit_BoolOp(self, node):
            self.generic_visit(node)
            stop = isinstance(node.op, ast.Or)
            parts = []
            for each in node.values:
                if isinstance(each, ast.Constant):
                    if bool(each.value) is stop:
                        return ast.Constant(stop)
                    continue
                parts.append(each)
            if not parts:
                return ast.Constant(not stop)
            return parts[0] if len(parts) == 1 else ast.BoolOp(node.op, parts)

        def visit_UnaryOp(self, node):
            self.generic_visit(node)
            if isinstance(node.op, ast.Not) and isinstance(node.operand, ast.Constant):
                return ast.Constant(not node.operand.value)
            return node

        def visit_Compare(self, node):
            self.generic_visit(node)
            values = [literal(each) for each in [node.left, *node.comparators]]
            if any(value is UNKNOWN for value in values):
                return node
            try:
                return ast.Constant(
                    bool(eval(compile(ast.Expression(ast.fix_missing_locations(node)), "", "eval"), {}))
                )
            except TypeError:
                return node

    tree = Simplifier().visit(ast.parse(condition, mode="eval"))
    if isinstance(tree.body, ast.Constant):
        return None
    return ast.unparse(ast.fix_missing_locations(tree))


def needs(classes, module, node):
    """What a step of the optimizer asks of its caller: a closure, or gradients of gradients."""
    found = set()
    text = ast.unparse(node)
    if "create_graph" in text or "compute_hutchinson_hessian" in text:
        found.add("create_graph")
    step = classes.method(module, node, "step")
    if step:
        args = [*step[2].args.posonlyargs, *step[2].args.args]
        required = args[: len(args) - len(step[2].args.defaults)]
        raises = "closure is None" in ast.unparse(step[2]) and any(
            isinstance(each, ast.If)
            and "closure is None" in ast.unparse(each.test)
            and any(isinstance(inner, ast.Raise) for inner in each.body)
            for each in ast.walk(step[2])
        )
        if any(arg.arg == "closure" for arg in required) or raises:
            found.add("closure")
    return sorted(found)


def class_signature(classes, module, node, skip, first):
    """What building it takes, None when its first argument is something else."""
    found = classes.method(module, node, "__init__")
    if found is None:
        return None
    function = found[2]
    args = [arg.arg for arg in [*function.args.posonlyargs, *function.args.args]]
    if len(args) < 2 or args[1] not in first:
        return None
    taken = parameters(function, {args[0], args[1], *skip})
    names = {each["name"] for each in taken}
    checks = Checks(classes, module, node)
    bound = {name: ast.Name(name, ast.Load()) for name in [*args[1:], *(arg.arg for arg in function.args.kwonlyargs)]}
    checks.walk((found[0], found[1]), function.body, bound, [], 0)
    simple = [simplify(each) for each in dict.fromkeys(checks.found) if is_simple_or_constant(each)]
    result = {"parameters": taken}
    if function.args.kwarg is not None:
        result["open"] = True
    conditions = [each for each in dict.fromkeys(simple) if each and is_simple(each, names)]
    if conditions:
        result["refuses"] = conditions
    return result


def is_simple_or_constant(condition):
    return "_" not in {node.id for node in ast.walk(ast.parse(condition, mode="eval")) if isinstance(node, ast.Name)}


def read_classes(sources, root, skip, first):
    """Optimizers or schedulers by the module and name that define them, and every dotted path that leads to each."""
    classes = Classes(sources)
    found, paths = {}, {}
    for package in PACKAGES:
        for module in sources.submodules(package):
            for name in sources.names(module):
                resolved = sources.resolve(module, name)
                if not resolved or not isinstance(resolved[1], ast.ClassDef) or name.startswith("_"):
                    continue
                where = f"{resolved[0]}.{resolved[1].name}"
                if where == root or not classes.inherits(*resolved, root):
                    continue
                if where not in found:
                    found[where] = class_signature(classes, *resolved, skip, first)
                    if found[where] is not None and root == OPTIMIZER:
                        asked = needs(classes, *resolved)
                        if asked:
                            found[where]["needs"] = asked
                paths[f"{module}.{name}"] = where
    known = {where: signature for where, signature in found.items() if signature is not None}
    return known, {path: where for path, where in sorted(paths.items()) if where in known}


def read_network(tree):
    """The arguments that a network module looks up by name, with the kinds that it turns their text into."""
    kinds, variables = {}, {}

    def look_up(node):
        """The argument that an expression looks up."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("get", "pop"):
            where, key = node.func.value, node.args[0] if node.args else None
        elif isinstance(node, ast.Subscript):
            where, key = node.value, node.slice
        else:
            return None
        name = literal(key) if key is not None else UNKNOWN
        is_kwargs = isinstance(where, ast.Name) and where.id.endswith("kwargs") and "net_" not in where.id
        return name if is_kwargs and isinstance(name, str) else None

    functions = [each for each in tree.body if isinstance(each, ast.FunctionDef) and each.name != FROM_WEIGHTS]
    nodes = [node for function in functions for node in ast.walk(function)]
    for node in nodes:
        name = look_up(node)
        if name:
            kinds.setdefault(name, set())
            default = literal(node.args[1]) if isinstance(node, ast.Call) and len(node.args) > 1 else None
            if isinstance(default, bool):
                kinds[name].add("flag")  # unless it is converted, any text counts as true
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            for inner in ast.walk(node.value):
                if look_up(inner):
                    variables.setdefault(node.targets[0].id, set()).add(look_up(inner))

    def arguments_in(node):
        for inner in ast.walk(node):
            if look_up(inner):
                yield look_up(inner)
            elif isinstance(inner, ast.Name) and inner.id in variables and len(variables[inner.id]) == 1:
                yield from variables[inner.id]

    for node in nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            kind = {"int": "int", "float": "float", "str_bool": "bool", "bool": "flag"}.get(node.func.id)
            for name in {name for arg in node.args for name in arguments_in(arg)} if kind else ():
                kinds[name].add(kind)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr == "split" and isinstance(node.func.value, ast.Name):
                for name in set(arguments_in(node.func.value)):
                    kinds[name].add("list")
        elif isinstance(node, ast.Compare) and all(
            literal(each) in ("True", "true", True) for each in node.comparators
        ):
            if isinstance(node.left, ast.Name):
                for name in set(arguments_in(node.left)):
                    kinds[name].add("bool")
    return {name: sorted(found - ({"flag"} if len(found) > 1 else set())) for name, found in sorted(kinds.items())}


def read_networks(sources):
    """Every network module by its dotted path: its arguments, and whether it attaches to the UNets of SD and SDXL."""
    found = {}
    names = [f"networks.{path.stem}" for path in sorted(Path("networks").glob("*.py"))]
    for module in [*names, "lycoris.kohya"]:
        tree = sources.tree(module)
        if tree is None or not isinstance(sources.names(module).get("create_network", (0, 0))[1], ast.FunctionDef):
            continue
        words = {
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        found[module] = {"arguments": read_network(tree), "sd": SD_UNET_BLOCK in words}
    return found


def read_algorithms(sources):
    """LyCORIS' algorithms by name, with the arguments that each one's class makes use of."""
    tree, renamed = sources.tree("lycoris.wrapper"), argument_by_parameter(sources.tree("lycoris.kohya"))
    classes, found = Classes(sources), {}
    for node in iter_statements(tree.body if tree else ()):
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)):
            continue
        if [dotted_name(target) for target in node.targets] != ["network_module_dict"]:
            continue
        for key, value in zip(node.value.keys, node.value.values):
            resolved = sources.resolve("lycoris.wrapper", dotted_name(value) or "")
            method = classes.method(*resolved, "__init__") if resolved else None
            if method and isinstance(literal(key), str):
                names = {arg.arg for arg in [*method[2].args.args, *method[2].args.kwonlyargs]}
                used = {each.id for each in ast.walk(method[2]) if isinstance(each, ast.Name)}
                found[literal(key)] = sorted({renamed.get(name, name) for name in names & used} & {*renamed.values()})
    return found


def argument_by_parameter(tree):
    """network_args' names by those of the classes' parameters, as create_network hands them on."""
    function = next(
        (
            each
            for each in (tree.body if tree else ())
            if isinstance(each, ast.FunctionDef) and each.name == "create_network"
        ),
        None,
    )
    variables, found = {}, {}
    for node in ast.walk(function) if function else ():
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            variables[node.targets[0].id] = list_lookups(node.value)
        elif isinstance(node, ast.Call) and (dotted_name(node.func) or "").endswith("NetworkKohya"):
            for word in node.keywords:
                keys = list_lookups(word.value) or variables.get(dotted_name(word.value) or "", [])
                if word.arg and keys:
                    found[word.arg] = word.arg if word.arg in keys else keys[-1]
    return found


def list_lookups(node):
    return [
        each.args[0].value
        for each in ast.walk(node)
        if isinstance(each, ast.Call)
        and dotted_name(each.func) == "kwargs.get"
        and isinstance(each.args[0], ast.Constant)
    ]


def read_schedules(sources):
    """The functions behind lr_scheduler's names, with what they take."""
    found = {}
    for module, table in (
        ("transformers.optimization", "TYPE_TO_SCHEDULER_FUNCTION"), ("diffusers.optimization", "TYPE_TO_SCHEDULER_FUNCTION")
    ):  # fmt: skip
        tree = sources.tree(module)
        for node in iter_statements(tree.body if tree else ()):
            if (
                isinstance(node, ast.Assign)
                and isinstance(node.value, ast.Dict)
                and dotted_name(node.targets[0]) == table
            ):
                for key, value in zip(node.value.keys, node.value.values):
                    resolved = sources.resolve(module, dotted_name(value) or "")
                    name = (dotted_name(key) or "").rpartition(".")[2].lower()
                    if resolved and isinstance(resolved[1], ast.FunctionDef) and name not in found:
                        found[name] = {"parameters": parameters(resolved[1], {"optimizer"})}
    return dict(sorted(found.items()))


def list_module_classes(sources):
    """The classes that modules of the models can have, which a LyCORIS preset names."""
    found = set(sources.names("torch.nn.modules"))
    for module in MODEL_SOURCES:
        found |= {name for name, (where, _) in sources.names(module).items() if where == module}
    return sorted(name for name in found if name[:1].isupper())


def list_packages(folders):
    """The top names that can be imported from the folders of packages."""
    names = set()
    for folder in folders:
        for path in Path(folder).iterdir():
            if path.name.isidentifier() and path.is_dir():
                names.add(path.name)
            elif path.suffix in (".py", ".so", ".pyd") and path.name.partition(".")[0].isidentifier():
                names.add(path.name.partition(".")[0])
    return sorted(name for name in names if not name.startswith("_"))


def write(path, content):
    """One line for each class, so that differences can be read."""
    parts = []
    for table, value in content.items():
        if isinstance(value, dict):
            rows = [f"  {json.dumps(name)}: {json.dumps(inner)}" for name, inner in sorted(value.items())]
            parts.append(f" {json.dumps(table)}: {{\n" + ",\n".join(rows) + "\n }")
        else:
            parts.append(f" {json.dumps(table)}: {json.dumps(value)}")
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8", newline="\n")


def is_standard(path, ours):
    return path in ours or path.name == "lib-dynload" or path == Path.cwd()


def main():
    folder, more = Path(sys.argv[1]), sys.argv[2:]
    ours = {Path(__file__).parent, *map(Path, (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")))}
    installed = [path for path in sys.path if path and Path(path).is_dir() and not is_standard(Path(path), ours)]
    sources = Sources([str(Path.cwd()), *installed, *more])
    optimizers, paths = read_classes(sources, OPTIMIZER, set(), ("params", "parameters", "model_params"))
    schedulers, scheduler_paths = read_classes(sources, SCHEDULER, set(), ("optimizer",))
    write(
        folder / "signatures.json",
        {
            "networks": read_networks(sources),
            "algorithms": read_algorithms(sources),
            "optimizers": optimizers,
            "schedulers": schedulers,
            "schedules": read_schedules(sources),
            "paths": {**paths, **scheduler_paths},
            "modules": list_module_classes(sources),
            "packages": list_packages([*installed, *more]),
        },
    )


if __name__ == "__main__":
    main()
