"""Finds an app by its reference `MODULE:APP` or `FILE.py:APP`, and the reference of an app."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from runyard_client.app import Runyard
from runyard_client.errors import RunyardError


class InvalidReference(RunyardError, ValueError):
    """A reference to an app is malformed, or does not lead to a Runyard."""


def load_app(reference: str) -> Runyard:
    """Import the module or file and return its app. Exceptions of the import are raised as they are.

    Raises InvalidReference if the reference is malformed or what it names is not a Runyard.
    """
    module_name, colon, path = reference.rpartition(":")
    if not colon or not module_name or not path:
        raise InvalidReference(f"The app must be given as MODULE:APP, such as shop.tasks:runyard; got {reference!r}.")
    found: Any = load_file(Path(module_name)) if module_name.endswith(".py") else importlib.import_module(module_name)
    for attribute in path.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            raise InvalidReference(f"{module_name} has no attribute {path!r}.") from None
    if not isinstance(found, Runyard):
        raise InvalidReference(f"{reference} must be a Runyard; got {type(found).__name__}.")
    return found


def load_file(path: Path) -> ModuleType:
    """Import a file as a module that has the name of the file. Its folder can be imported from, as in `python FILE.py`."""
    name = path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise InvalidReference(f"There is no Python file {path}.")
    sys.path.insert(0, str(path.resolve().parent))
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def app_reference(app: Runyard) -> str:
    """Return a reference by which a child process can import the app.

    Raises InvalidReference if no module of its tasks has it as a global variable, as in a notebook.
    """
    for module_name in dict.fromkeys(task.function.__module__ for task in app.tasks.values()):
        module = sys.modules.get(module_name)
        for name, value in list(vars(module).items()) if module else ():
            if value is app:
                return f"{_importable_name(module_name, module)}:{name}"
    raise InvalidReference(
        "Tasks of the pool `process` need the app as a global variable of the module that declares them, "
        "to let child processes import it."
    )


def _importable_name(module_name: str, module: Any) -> str:
    if module_name != "__main__":
        return module_name
    spec, file = getattr(module, "__spec__", None), getattr(module, "__file__", None)
    if spec is not None:
        return str(spec.name)
    if file is None:
        raise InvalidReference("Tasks of the pool `process` cannot be declared in an interactive session.")
    return str(Path(file).resolve())


def source_folders() -> list[str]:
    """Return the folders of the imported modules that are not installed packages, for `--reload`."""
    installed = tuple(str(Path(path).resolve()) for path in {sys.prefix, sys.base_prefix})
    folders: set[str] = set()
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and "site-packages" not in file and not str(Path(file).resolve()).startswith(installed):
            folders.add(str(Path(file).resolve().parent))
    return sorted(folders)
