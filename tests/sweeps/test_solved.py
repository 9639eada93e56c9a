import importlib.util
import json
import os
import stat
import sys
import tempfile

import pytest

from sweeps.theory import solved

SOURCE = """
from sweeps.theory.solved import kept

calls = []


@kept()
def third(numerator, denominator):
    calls.append((numerator, denominator))
    return [numerator / denominator, "third", None]
"""


@pytest.fixture
def solver(tmp_path, monkeypatch):
    """Write source and load it anew, as another process would."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def load(source=SOURCE, name="a_solver"):
        path = tmp_path / f"{name}.py"
        path.write_text(source)
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(source, path, "exec"), module.__dict__)  # never the bytecode of what lay there before
        return module

    return load


def files():
    return sorted(solved.folder().glob("*")) if solved.folder().exists() else []


def test_asked_twice_solved_once_to_the_last_bit(solver):
    first, again = solver(), solver()
    assert first.third(1.0, 3.0) == again.third(1.0, 3.0) == [1 / 3, "third", None]
    assert (first.calls, again.calls) == ([(1.0, 3.0)], [])
    assert [path.suffix for path in files()] == [".json"]
    assert json.loads(files()[0].read_text())["function"] == "a_solver.third"


def test_other_arguments_are_another_question(solver):
    module = solver()
    assert [module.third(1.0, d)[0] for d in (3.0, 4.0, 3.0)] == [1 / 3, 1 / 4, 1 / 3]
    assert module.calls == [(1.0, 3.0), (1.0, 4.0)]


def test_changed_source_is_another_question(solver):
    solver().third(1.0, 3.0)
    changed = solver(SOURCE.replace("numerator / denominator", "numerator / denominator + 1"))
    assert changed.third(1.0, 3.0)[0] == 1 / 3 + 1
    assert len(changed.calls) == 1
    assert len(files()) == 2


def test_changed_source_of_a_module_named_is_another_question(solver):
    named = SOURCE.replace("kept()", 'kept("a_helper")')
    for helper, calls in [("scale = 1", 1), ("scale = 1", 0), ("scale = 2", 1)]:
        solver(helper, "a_helper")
        module = solver(named)
        module.third(1.0, 3.0)
        assert len(module.calls) == calls


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[]", b"null", b'{"answer": 7}', b'{"function": "other", "arguments": [], "answer": 7}'],
)
def test_a_corrupt_file_is_solved_again_and_replaced(solver, content):
    solver().third(1.0, 3.0)
    files()[0].write_bytes(content)
    module = solver()
    assert module.third(1.0, 3.0)[0] == 1 / 3
    assert len(module.calls) == 1
    assert json.loads(files()[0].read_text())["answer"][0] == 1 / 3


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_no_error(solver):
    solved.folder().mkdir(parents=True)
    solved.folder().chmod(stat.S_IRUSR | stat.S_IXUSR)
    module = solver()
    assert module.third(1.0, 3.0) == module.third(1.0, 3.0)
    assert len(module.calls) == 2


def test_a_file_where_the_folder_should_be_is_no_error(solver, tmp_path):
    (tmp_path / "cache").write_text("")
    module = solver()
    assert module.third(1.0, 3.0) == module.third(1.0, 3.0)
    assert len(module.calls) == 2


@pytest.mark.parametrize(("module", "name"), [(tempfile, "mkstemp"), (os, "replace")])
def test_a_write_that_fails_leaves_nothing(solver, monkeypatch, module, name):
    def refuse(*_, **__):
        raise PermissionError("read-only file system")

    monkeypatch.setattr(module, name, refuse)
    assert solver().third(1.0, 3.0)[0] == 1 / 3
    assert files() == []


def test_no_home_is_no_error(solver, monkeypatch):
    def homeless():
        raise RuntimeError("could not determine home directory")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(solved.Path, "home", homeless)
    assert solver().third(1.0, 3.0)[0] == 1 / 3


def test_without_the_variable_answers_lie_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert solved.folder() == tmp_path / ".cache" / "relu-sweeps" / "theory"
