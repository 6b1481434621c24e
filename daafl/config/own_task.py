"""A user's own task, named on the command line by its file or module and its class."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from daafl.config.checking import check_call
from daafl.data.partition import Partitioner
from daafl.errors import ConfigError
from daafl.learning.task import Task
from daafl.nearest import suggestion

_RULE: Final = "write it as my_task.py:MyTask or package.module:MyTask"


def own_task(
    path: str,
    partitioner: Partitioner | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> Task:
    """Return the task at ``path``.

    Parameters
    ----------
    path
        ``my_task.py:MyTask`` or ``package.module:MyTask``, from the current folder.
    partitioner
        Who gets what: handed to the constructor if that takes a ``partitioner``, else set on the
        task. ``None`` keeps the task's own.
    arguments
        Arguments of the constructor.

    Raises
    ------
    ConfigError
        If the file, the class or an argument does not exist, or the user's code raises; the
        sentence has the file and the line.
    """
    source, _, name = path.rpartition(":")
    if not source or not name.isidentifier():
        raise ConfigError(f"task.path is {path!r}; {_RULE}")
    kind = _task_class(_module(source, path), name, path)
    values = dict(arguments or {})
    takes_partitioner = "partitioner" in signature(kind).parameters
    if partitioner is not None and takes_partitioner:
        values.setdefault("partitioner", partitioner)
    check_call(kind, values, "task.arguments")
    try:
        task = kind(**values)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        raise ConfigError(f"task.path={path}: {explained(error, _file_of(kind))}") from error
    if partitioner is not None and not takes_partitioner:
        try:
            task.partitioner = partitioner
        except AttributeError as error:
            raise ConfigError(
                f"task.path={path}: the partitioner of a {name} cannot be set; "
                "task.partitioner=null keeps its own"
            ) from error
    return task


def explained(error: BaseException, file: str | None) -> str:
    """Return what went wrong and where in ``file``, in one sentence.

    Parameters
    ----------
    error
        As it was caught.
    file
        The user's file; without it, or if the error did not come through it, the last place counts.
    """
    kind, text = type(error).__name__, " ".join(str(error).split())
    said = f"{kind}: {text}" if text else kind
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}, line {error.lineno}: {kind}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == file] or frames[-1:]
    if not own:
        return said
    return f"{Path(own[-1].filename).name}, line {own[-1].lineno}, in {own[-1].name}: {said}"


def came_through(error: BaseException, file: str) -> bool:
    """Return whether an error was raised in ``file`` or in what it called."""
    return any(frame.filename == file for frame in traceback.extract_tb(error.__traceback__))


def file_of_task(task: Task) -> str | None:
    """Return the file that defines the class of ``task``; ``None`` if it has none."""
    return _file_of(type(task))


def _module(source: str, path: str) -> ModuleType:
    """Return the module in a file or of a dotted name, with its folder importable as in Python."""
    is_file = source.endswith(".py") or "/" in source
    file = Path(source).resolve()
    if is_file and not file.is_file():
        raise ConfigError(f"task.path={path}: there is no file {source}; {_RULE}")
    folder = str(file.parent if is_file else Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return _from_file(file) if is_file else import_module(source)
    except ModuleNotFoundError as error:
        if not is_file and error.name is not None and source.startswith(error.name):
            raise ConfigError(f"task.path={path}: there is no module {source}; {_RULE}") from error
        raise ConfigError(f"task.path={path}: {explained(error, str(file))}") from error
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        raise ConfigError(f"task.path={path}: {explained(error, str(file))}") from error


def _from_file(file: Path) -> ModuleType:
    # A name of its own, so that a file called random.py does not replace Python's.
    name = f"daafl_own_task_{file.stem}"
    spec = spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = module_from_spec(spec)
    # Dataclasses look their module up while they are made.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _task_class(module: ModuleType, name: str, path: str) -> type[Task]:
    found = getattr(module, name, None)
    if found is None:
        tasks = [
            key
            for key, value in vars(module).items()
            if isinstance(value, type) and issubclass(value, Task) and value is not Task
        ]
        raise ConfigError(f"task.path={path}: there is no class {name}; {suggestion(name, tasks)}")
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise ConfigError(f"task.path={path}: {name} is not a class that inherits from daafl.Task")
    missing = sorted(getattr(found, "__abstractmethods__", ()))
    if missing:
        raise ConfigError(f"task.path={path}: {name} does not define {', '.join(missing)}()")
    return found


def _file_of(kind: type[Task]) -> str | None:
    return getattr(sys.modules.get(kind.__module__), "__file__", None)
