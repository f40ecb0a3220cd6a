"""What `import channelpay` offers."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import channelpay


def stub_names():
    tree = ast.parse(Path(channelpay.__file__).with_suffix(".pyi").read_text("utf-8"))
    imported = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {alias.asname: f"{node.module}.{alias.name}" for node in imported for alias in node.names}


def test_every_name_is_there_and_is_what_type_checkers_think_it_is():
    names = stub_names()
    assert set(names) == set(channelpay._HOMES)
    for name, origin in names.items():
        module, _, attribute = origin.rpartition(".")
        assert getattr(channelpay, name) is getattr(sys.modules[module], attribute), name
    assert set(names) <= set(dir(channelpay))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = channelpay.nonsense


def test_importing_the_package_loads_nothing_else():
    code = "import sys, channelpay; print(sorted(m for m in sys.modules if m.startswith('channelpay') or m == 'trio'))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "['channelpay']"
