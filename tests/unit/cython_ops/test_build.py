from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import cython_ops
from cython_ops import _kernels, reference

NOT_FUNCTIONS = {"BuildInfo", "DenseNetwork", "RowCodes", "build_info"}


def _run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_extension_is_built_and_says_which_tier_it_uses() -> None:
    info = cython_ops.build_info()
    assert info["tier"] in info["tiers"]
    assert info["tiers"][-1] == "base"


@pytest.mark.parametrize("name", _kernels.available_tiers())
def test_the_environment_forces_a_tier(name: str) -> None:
    done = _run("import cython_ops; print(cython_ops.build_info()['tier'])", LONJA_CPU_TIER=name)
    assert done.stdout.strip() == name, done.stderr


def test_an_unknown_tier_stops_the_import_with_the_names_that_would_do() -> None:
    done = _run("import cython_ops", LONJA_CPU_TIER="avx9000")
    assert "LONJA_CPU_TIER is 'avx9000'" in done.stderr
    assert "base" in done.stderr


def test_use_tier_refuses_what_this_build_does_not_have() -> None:
    with pytest.raises(ValueError, match="no tier 'mmx' here"):
        _kernels.use_tier("mmx")


def test_a_missing_extension_says_how_to_build_it(tmp_path: Path) -> None:
    (tmp_path / "cython_ops").mkdir()
    shutil.copy(cython_ops.__file__, tmp_path / "cython_ops")
    code = (
        "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in type(f).__module__]; "
        f"sys.path.insert(0, {str(tmp_path)!r}); import cython_ops"
    )
    done = _run(code)
    assert "ImportError: cython_ops._kernels is not built. `make install` builds it" in done.stderr


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm (binutils)")
def test_only_the_module_init_is_exported() -> None:
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", _kernels.__file__], capture_output=True, text=True, check=True
    )
    assert [line.split()[-1] for line in listed.stdout.splitlines()] == ["PyInit__kernels"]


def test_the_import_leaves_denormals_alone() -> None:
    done = _run("import cython_ops, numpy as np; print(np.float32(1e-40) * np.float32(1) > 0)")
    assert done.stdout.strip() == "True", done.stderr


def _parameters(*modules: Path) -> dict[str, list[str]]:
    nodes = [node for module in modules for node in ast.walk(ast.parse(module.read_text()))]
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    return {f.name: [a.arg for a in (*f.args.args, *f.args.kwonlyargs)] for f in functions}


def test_each_kernel_has_a_twin_and_a_stub_with_its_parameters() -> None:
    folder = Path(cython_ops.__file__).parent
    twins, stubs = _parameters(*folder.glob("reference/*.py")), _parameters(folder / "_kernels.pyi")
    for name in set(cython_ops.__all__) - NOT_FUNCTIONS:
        described = (getattr(cython_ops, name).__doc__ or "").partition("\n")[0]
        assert stubs[name] == twins[name]
        assert [p for p in stubs[name] if re.search(rf"\b{p}\b", described)] == stubs[name]
    assert stubs["__call__"] == twins["__call__"]
    assert set(cython_ops.__all__) - {"BuildInfo", "RowCodes", "build_info"} == set(reference.__all__)


def test_kernels_run_in_many_threads_at_once(tier: str) -> None:
    rows = np.random.default_rng(5).standard_normal((200, 400), np.float32)
    want = reference.softmax_topk(rows, 3)[1]
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(20):
            wrong.extend([number] * (not np.array_equal(cython_ops.softmax_topk(rows, 3)[1], want)))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
