"""The house plan: which room may know which, what an import costs, and what no library code does."""

import ast
import importlib
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import landscape as ls
from landscape import errors

ROOT = Path(__file__).resolve().parents[2]
ROOMS = {
    "landscape": ROOT / "landscape",
    "landscape.potentials": ROOT / "potentials",
    "landscape.probes": ROOT / "probes",
    "landscape.examples": ROOT / "examples",
}
LINKED = ("examples", "potentials", "probes")


def module_name(room, path):
    parts = path.relative_to(ROOMS[room]).with_suffix("").parts
    return ".".join([room, *(part for part in parts if part != "__init__")])


def sources():
    """Name and path of every module; the links inside `landscape` are not followed."""
    found = {}
    for room, folder in ROOMS.items():
        for path in sorted(folder.rglob("*.py")):
            inside = path.relative_to(folder).parts
            if "__pycache__" in inside or (room == "landscape" and inside[0] in LINKED):
                continue
            found[module_name(room, path)] = path
    return found


MODULES = sources()
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


LAYERS = (
    ("errors", "random", "checks", "statistics"),
    ("common",),
    ("potentials",),
    ("boundaries", "integrators", "kernels", "noise"),
    ("engine", "observers", "recording"),
    ("storage",),
    ("dynamics", "paths"),
    ("spec",),
    ("probes",),
    ("workflows",),
    ("report", "cli", "examples"),
)
HEIGHT = {room: height for height, layer in enumerate(LAYERS) for room in layer}


def level(module):
    """How far up the house a module lives; arrows point down or stay. The package itself hands every name on."""
    return HEIGHT[module.split(".")[1]] if "." in module else HEIGHT["workflows"]


def imported(name, tree):
    """Modules of this project that a module imports, anywhere in it: also inside functions and by name."""
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [node.module])])
            # `from landscape import x` is a module if there is one of that name
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield full if full in MODULES else base
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
            yield from (a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str))


ARROWS = {
    name: {other for other in imported(name, tree) if other.split(".")[0] in ("landscape", *LINKED)}
    for name, tree in TREES.items()
}


def test_the_house_has_its_rooms():
    """Control: the tests below look at something."""
    assert len(MODULES) > 60
    assert {
        "landscape.dynamics.simulate",
        "landscape.potentials.expression.potential",
        "landscape.kernels.tape",
    } <= set(MODULES)
    assert ARROWS["landscape.potentials.expression.potential"]
    assert any(level(other) < level(name) for name, others in ARROWS.items() for other in others)


def test_no_arrow_points_back():
    arrows = [(name, other) for name in MODULES for other in sorted(ARROWS[name])]
    assert [f"{name} imports {other}" for name, other in arrows if level(other) > level(name)] == []
    by_folder = [f"{name} imports {other} by its folder" for name, other in arrows if other.split(".")[0] in LINKED]
    assert by_folder == []


def test_the_top_of_the_house_is_small():
    rooms = {name.split(".")[1] for name in MODULES if "." in name}
    assert rooms == {room for layer in LAYERS for room in layer}
    assert len(rooms) <= 22
    assert [path.name for path in (ROOT / "probes").rglob("_*.py") if not path.name.startswith("__")] == []


def test_errors_and_random_stand_on_nothing():
    for name in ("landscape.errors", "landscape.random"):
        assert ARROWS[name] <= {"landscape.errors"} - {name}


def test_there_is_no_circle():
    """Depth-first through all arrows between modules, those inside functions included."""
    done, stack = set(), []

    def visit(name):
        if name in stack:
            pytest.fail("a circle: " + " -> ".join([*stack[stack.index(name) :], name]))
        if name in done or name not in ARROWS:
            return
        stack.append(name)
        for other in sorted(ARROWS[name] - {name}):
            visit(other)
        stack.pop()
        done.add(name)

    for name in MODULES:
        visit(name)


# -- imports ----------------------------------------------------------------------------------------------------------


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.mark.parametrize("folder", LINKED)
def test_folders_say_what_to_import(folder):
    done = python(f"import {folder}")
    assert done.returncode != 0
    assert "ImportError" in done.stderr
    assert f"from landscape import {folder}" in done.stderr


@pytest.mark.parametrize("statement", ["import landscape", "import landscape; dir(landscape)"])
def test_import_is_light(statement):
    heavy = ["torch", "torchvision", "numba", "matplotlib", "scipy", "sympy", "xarray", "pandas", "netCDF4", "sklearn"]
    done = python(f"import sys; {statement}; sys.stdout.write(' '.join(m for m in {heavy} if m in sys.modules))")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("statement", "unneeded"),
    [
        ("from landscape import errors", ["torch", "numba", "xarray", "matplotlib"]),
        (
            "from landscape.potentials import Expression; Expression('x**2', ['x']).energy([1.0])",
            ["numba", "matplotlib"],
        ),
        ("import landscape as ls; ls.Record(every=3); ls.grid(temperature=[1.0])", ["numba", "matplotlib"]),
    ],
)
@pytest.mark.always
def test_kernels_and_plots_are_loaded_only_where_needed(statement, unneeded):
    done = python(f"import sys; {statement}; sys.stdout.write(' '.join(m for m in {unneeded} if m in sys.modules))")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


@pytest.mark.always
def test_imports_leave_global_settings_alone():
    done = python(
        "import torch, numpy, random, sys\n"
        "state = lambda: (torch.get_default_dtype(), torch.get_num_threads(), torch.get_rng_state().tolist(),"
        " torch.is_grad_enabled(), numpy.geterr(), random.getstate(), sys.getrecursionlimit())\n"
        "before = state()\n"
        "import landscape as ls\n"
        "for name in ls.__all__: getattr(ls, name)\n"
        "import landscape.potentials.network.potential, landscape.potentials.toys.ring\n"
        "import landscape.workflows.specification\n"
        "after = state()\n"
        "sys.stdout.write(str([i for i, (a, b) in enumerate(zip(before, after)) if a != b]))\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]"


def test_every_folder_is_packaged():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    found = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    assert found == set(settings["packages"])
    assert settings["package-dir"] == {f"landscape.{folder}": folder for folder in LINKED}


def test_an_uninstalled_checkout_sees_the_same_names():
    for folder in LINKED:
        link = ROOT / "landscape" / folder
        if not link.is_symlink():
            pytest.skip("a checkout without symbolic links")
        assert str(link.readlink()) == f"../{folder}"


# -- public names -----------------------------------------------------------------------------------------------------

PUBLIC = [
    "SGD",
    "Adam",
    "AdamW",
    "Diffusion",
    "EulerMaruyama",
    "LeimkuhlerMatthews",
    "Periodic",
    "Record",
    "Reflect",
    "ThermalNoise",
    "errors",
    "grid",
    "minimize",
    "open",
    "potentials",
    "probes",
    "run",
    "save",
    "simulate",
    "train",
]


def test_public_names_are_there():
    assert set(PUBLIC) <= set(ls.__all__)
    assert set(PUBLIC) <= set(dir(ls))
    assert [name for name in PUBLIC if not getattr(ls, name).__doc__] == []


def test_every_name_that_is_promised_exists():
    """What `__all__` of a package names, it has."""
    for package in (ls, ls.potentials, ls.potentials.toys, ls.potentials.architectures, ls.potentials.datasets):
        for name in package.__all__:
            assert getattr(package, name) is not None, name


def test_potentials_and_errors_of_the_reference():
    assert {"Expression", "Function", "NetworkLoss", "Potential"} <= set(ls.potentials.__all__)
    toys = {"Quadratic", "Valley", "Ring", "ExponentialWall", "DoubleWell", "MullerBrown"}
    assert toys <= set(ls.potentials.toys.__all__)
    architectures = {"mlp", "resnet_cifar", "wide_resnet", "vgg", "vit"}
    assert architectures <= set(ls.potentials.architectures.__all__)
    tree = {
        "ShapeError": ValueError,
        "ConfigError": ValueError,
        "FormulaError": ValueError,
        "NonFiniteError": FloatingPointError,
        "CheckpointError": RuntimeError,
        "StorageError": OSError,
        "ConvergenceError": RuntimeError,
        "OverlapError": RuntimeError,
        "DatasetNotFound": FileNotFoundError,
    }
    assert set(errors.__all__) == {"LandscapeError", *tree}
    for name, standard in tree.items():
        assert issubclass(getattr(errors, name), (errors.LandscapeError, standard))
        assert issubclass(getattr(errors, name), standard)


SIGNATURES = {
    "simulate": [
        *("potential", "integrator", "steps", "start", "chains", "temperature", "record", "constraint", "seed"),
        *("data_seed", "state", "backend", "dtype", "device", "progress", "on_nonfinite"),
    ],
    "minimize": ["potential", "start", "method", "tolerance", "steps", "lr"],
    "train": ["loss", "integrator", "epochs", "schedule", "split_epoch", "siblings", "seed"],
    "Record": ["every", "observables", "snapshots"],
    "EulerMaruyama": ["dt", "noise"],
    "LeimkuhlerMatthews": ["dt"],
    "Diffusion": ["dt"],
    "SGD": ["lr", "momentum", "nesterov", "weight_decay"],
    "Adam": ["lr", "betas", "eps"],
    "AdamW": ["lr", "betas", "eps", "weight_decay"],
    "ThermalNoise": ["precision", "refinement"],
    "open": ["path"],
    "run": ["spec"],
}


def test_arguments_of_the_reference():
    for name, expected in SIGNATURES.items():
        parameters = inspect.signature(getattr(ls, name)).parameters
        assert [wanted for wanted in expected if wanted not in parameters] == [], name
        if name in ("simulate", "minimize", "train"):
            positional = [p.name for p in parameters.values() if p.kind == p.POSITIONAL_OR_KEYWORD]
            assert len(positional) <= 2, name


def test_arguments_of_network_losses():
    wanted = ["module", "inputs", "targets", "loss", "batch_size", "sampling", "shared_batches", "augment"]
    wanted += ["weight_decay", "batchnorm", "dropout", "evaluation", "chunk_size", "dtype", "device"]
    parameters = inspect.signature(ls.potentials.NetworkLoss).parameters
    assert [name for name in wanted if name not in parameters] == []
    methods = ["position", "load", "module_at", "sample_energies", "sample_gradients", "accuracy"]
    assert [name for name in methods if not callable(getattr(ls.potentials.NetworkLoss, name, None))] == []


@pytest.mark.parametrize("integrator", ["EulerMaruyama", "LeimkuhlerMatthews", "Diffusion", "SGD", "Adam", "AdamW"])
def test_integrators_state_their_facts(integrator):
    kind = getattr(ls, integrator)
    for fact in ("weak_order", "stationary_order", "strong_order", "gradients_per_step", "samples_boltzmann"):
        assert hasattr(kind, fact), fact
    assert kind.gradients_per_step == (0 if integrator == "Diffusion" else 1)
    assert kind.samples_boltzmann == (integrator in ("EulerMaruyama", "LeimkuhlerMatthews"))


# -- what every module has, and what none does ------------------------------------------------------------------------


def is_public(name):
    return not any(part.startswith("_") for part in name.split("."))


def assigns_all(tree):
    targets = [
        element
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        for element in (target.elts if isinstance(target, ast.Tuple) else [target])
    ]
    return any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets)


def unexplained(name, tree):
    """A public module, function or class without a docstring; a module that does not list its names."""
    definitions = [
        node
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
    ]
    if not ast.get_docstring(tree):
        yield f"{name}: no docstring"
    if definitions and not assigns_all(tree):
        yield f"{name}: no __all__"
    yield from (
        f"{name}:{node.lineno}: {node.name} undocumented" for node in definitions if not ast.get_docstring(node)
    )


def calls(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def running_what_is_loaded(name, tree):
    """Calls and modules by which a file that is read could run code."""
    forbidden = {"eval", "exec", "compile", "__import__", "os.system", "os.popen"}
    pickles = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    if name == "landscape.spec.carrying":  # between a sweep and its own workers; it may know nothing of files
        imported = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))}
        if imported <= {"from __future__ import annotations", "from typing import Any", "import cloudpickle"}:
            pickles -= {"cloudpickle"}
        forbidden |= {"open", "cloudpickle.load", "cloudpickle.dump"}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            given = {alias.name for alias in node.names} if isinstance(node, ast.Import) else {node.module}
            if given & pickles:
                yield f"{name}:{node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.Call):
            function = ast.unparse(node.func)
            settings = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            safe = (
                function not in forbidden
                and settings.get("allow_pickle", "False") == "False"
                and settings.get("weights_only", "False" if function.endswith("torch.load") else "True") == "True"
                and settings.get("shell", "False") == "False"
            )
            if not safe:
                yield f"{name}:{node.lineno}: {ast.unparse(node)}"


def asserting_or_printing(name, tree):
    yield from (f"{name}:{node.lineno}: assert" for node in ast.walk(tree) if isinstance(node, ast.Assert))
    if not name.startswith("landscape.cli"):
        yield from (f"{name}:{call.lineno}: print" for call in calls(tree) if ast.unparse(call.func) == "print")


def hidden_random_numbers(name, tree):
    """Draws from, and seeds of, the global generators of torch, numpy and Python: all randomness is keyed."""
    hidden = {
        *(f"torch.{word}" for word in ("manual_seed", "seed", "rand", "randn", "randint", "randperm")),
        *(f"np.random.{word}" for word in ("seed", "rand", "randn")),
        *(f"random.{word}" for word in ("random", "seed", "shuffle")),
    }
    for call in calls(tree):
        if ast.unparse(call.func) in hidden and not any(keyword.arg == "generator" for keyword in call.keywords):
            yield f"{name}:{call.lineno}: {ast.unparse(call)}"


def plotting_at_the_top(name, tree):
    imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    yield from (f"{name}:{node.lineno}" for node in imports if "matplotlib" in ast.unparse(node))


RULES = {
    unexplained: is_public,
    running_what_is_loaded: lambda name: True,
    asserting_or_printing: lambda name: True,
    hidden_random_numbers: lambda name: True,
    plotting_at_the_top: lambda name: not name.startswith("landscape.examples."),
}
FAULTS = {
    unexplained: "def shown():\n    pass\n",
    running_what_is_loaded: "import torch\ntorch.load('x')\n",
    asserting_or_printing: "assert True\n",
    hidden_random_numbers: "torch.randn(3)\n",
    plotting_at_the_top: "from matplotlib import pyplot\n",
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_module_keeps_the_rule(rule):
    assert [fault for name, tree in TREES.items() if RULES[rule](name) for fault in rule(name, tree)] == []
    assert list(rule("control", ast.parse(FAULTS[rule])))


def test_all_names_what_is_there():
    for name in MODULES:
        if is_public(name) and not name.startswith("landscape.cli"):
            module = importlib.import_module(name)
            assert [offered for offered in getattr(module, "__all__", ()) if not hasattr(module, offered)] == [], name


# -- nobody asks for the class of a landscape, a noise or a rule ------------------------------------------------------


def kinds():
    """Names of concrete potentials, noises and integrators, and the folders that they live in."""
    from landscape import integrators, noise, potentials

    rooms = {"landscape.potentials": potentials, "landscape.noise": noise, "landscape.integrators": integrators}
    abstract = {"Potential", "Noise", "Integrator", "Mobility", "StepContext"}
    return {home: {name for name in room.__all__ if name[0].isupper()} - abstract for home, room in rooms.items()}


def asked(tree):
    """Names of the classes that ``isinstance``, ``type(...) is`` and patterns ask for."""
    for node in ast.walk(tree):
        questions = []
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass") and len(node.args) > 1:
            questions = [node.args[1]]
        elif isinstance(node, ast.Compare) and ast.unparse(node.left).startswith("type("):
            questions = node.comparators
        elif isinstance(node, ast.MatchClass):
            questions = [node.cls]
        for question in questions:
            yield from (
                (one.id if isinstance(one, ast.Name) else one.attr, node.lineno)
                for one in ast.walk(question)
                if isinstance(one, (ast.Name, ast.Attribute))
            )


def test_nobody_asks_for_the_class_of_what_another_room_made():
    """What an object can do it is asked for: plug-ins have no class that is listed anywhere."""
    found = [
        f"{name}:{line} asks for {kind}"
        for name, tree in TREES.items()
        if not name.startswith("landscape.examples")
        for kind, line in asked(tree)
        for home, names in kinds().items()
        if kind in names and not name.startswith(home)
    ]
    assert found == []
    control = ast.parse("isinstance(x, A | b.B)\ntype(x) is C\nmatch x:\n    case D(): pass")
    assert {"A", "B", "C", "D"} <= {kind for kind, _ in asked(control)}
    assert "HessianNoise" in kinds()["landscape.noise"]
