"""What is another run, and what is the same one: the sources that decide numbers, without their comments."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipelines.cli.main import main
from pipelines.config.load import run_from_dict
from pipelines.errors import UserError
from pipelines.registry import fingerprint, source
from pipelines.runs import identity
from tests.pipelines.train.harness import REAL

HELPER = "pipelines.tasks.shared.word_encoder"
# Modules that preparing and training import, and that decide no number (TRAINING and the task hold the rest).
NO_NUMBERS = (
    "custom_attention",
    *(
        f"custom_attention.{name}"
        for name in ("dead", "diagnostics", "dummy_inputs", "hook_calls", "hook_names")
    ),
    *(f"custom_attention.{name}" for name in ("export", "fold", "observation", "proof", "user_code")),
    "custom_attention.adapters",  # finds them
    *(f"custom_attention.{name}" for name in ("permissions", "registry", "saving", "trainer", "variants")),
    "custom_attention.scaled_self_attention",
    *(f"pipelines.distributed.{name}" for name in ("launch", "stop")),
    *(
        f"pipelines.models.{name}"
        for name in ("flops", "folder", "padding", "saving", "trial_inputs", "weights")
    ),
    *(f"pipelines.storage.{name}" for name in ("atomic", "lock", "names", "reading", "records", "removal")),
    *(f"pipelines.storage.{name}" for name in ("run_folder", "sealed", "temporary")),
    "pipelines.shown",
    "pipelines.terminal",
    *(f"pipelines.train.{name}" for name in ("attention_log", "checkpoint", "process_advice", "progress")),
    *(f"pipelines.train.{name}" for name in ("trackers", "speed.allocator")),
    *(f"pipelines.data.{name}" for name in ("garbage", "label_shares")),
    *(f"pipelines.runs.{name}" for name in ("first_batch", "prepare")),
)
NO_NUMBERS_PACKAGES = ("pipelines.config.", "pipelines.hub.", "pipelines.registry.")
BY_TASK = ("pipelines.tasks.", "pipelines.metrics.")


@pytest.fixture(autouse=True)
def fresh_caches():
    def clear():
        fingerprint.fingerprints.cache_clear()
        fingerprint.fingerprint.cache_clear()

    clear()
    yield clear
    clear()


@pytest.fixture
def append(tmp_path, monkeypatch, fresh_caches):
    """Read the source of a module with some lines more at its end."""
    find = source.find_module

    def appended(name: str, lines: str) -> None:
        copy = tmp_path / f"{name}.py"
        copy.write_text(f"{find(name).read_text(encoding='utf-8')}\n{lines}\n", encoding="utf-8")
        monkeypatch.setattr(source, "find_module", lambda asked: copy if asked == name else find(asked))
        fresh_caches()

    return appended


def described(**changes) -> dict:
    return identity.describe(run_from_dict({**REAL, "task": "ner", **changes}))


def hashed(text: str) -> str:
    return fingerprint.normal_form(ast.parse(text))


# ---- the normal form
def test_comments_docstrings_and_layout_change_nothing(append):
    before = described()
    append(HELPER, '# a comment\n"""A text."""')
    assert described() == before


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f(x):\n    'Return x.'\n    return x", "def f(x): return x  # x"),
        ("class A:\n    'Nothing.'", "class A: pass"),
        ("x = ('a'\n     'b')", 'x = "ab"'),
        ("f(1,\n  2,)", "f(1, 2)"),
    ],
)
def test_what_does_the_same_has_one_normal_form(one, other):
    assert hashed(one) == hashed(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "x = 1.0"),
        ("x = 1", "x = True"),
        ("x = 1", "x = '1'"),
        ("return_ = None", "return_ = 'None'"),
        ("{**a}", "{None: a}"),
        ("x = -y", "x = +y"),
        ("f(*a)", "f(a)"),
        ("x = f'{y!r}'", "x = f'{y}'"),
        ("def f(*, a=None): return", "def f(*, a): return"),
        ("from a import b", "from .a import b"),
    ],
)
def test_what_does_something_else_has_another(one, other):
    assert hashed(one) != hashed(other)


def test_the_normal_form_is_the_same_text_on_every_python():
    """Python 3.12 gave functions `type_params`, 3.13 leaves empty fields out of `ast.dump`: neither shows."""
    expected = (
        "Module(body=[FunctionDef(name='f',args=arguments(args=[arg(arg='x',annotation=Name(id='int'))]),"
        "body=[Return(value=BinOp(left=Name(id='x'),op=Add(),right=1e-05))])])"
    )
    assert hashed("def f(x: int):\n    'Add.'\n    return x + 1e-5") == expected


# ---- what a run's hash covers
def test_a_change_in_a_helper_of_the_task_is_another_run(append):
    before = described()
    append(HELPER, "ANOTHER = 1")
    assert [line.split(":")[0] for line in identity.differences(before, described())] == [f"sources.{HELPER}"]


def test_a_run_with_a_broken_helper_has_no_hash(append):
    append(HELPER, "class class")
    with pytest.raises(UserError, match=r"word_encoder\.py:\d+: is not valid Python"):
        described()


@pytest.mark.parametrize(
    "module",
    [
        "pipelines.train.loop",
        "pipelines.train.batches",
        "pipelines.train.evaluate",
        "pipelines.metrics.entity_f1",
        "pipelines.tasks.base",
        "custom_attention.runtime.dispatch",
        "custom_attention.variants.gate",
    ],
)
def test_what_trains_and_what_scores_is_part_of_it(module, append):
    before = described(attention=["gate"])
    append(module, "ANOTHER = 1")
    assert described(attention=["gate"])["sources"][module] != before["sources"][module]


def test_a_corpus_is_part_of_it():
    assert "pipelines.corpora.ner" in described()["sources"]


def test_every_module_that_a_run_imports_is_part_of_it_or_known_to_decide_no_number():
    trained_by = {f"{package}.{name}" for package, names in identity.TRAINING.items() for name in names}
    imported = fingerprint.fingerprints("pipelines.runs.prepare").keys()
    unknown = {
        name
        for name in imported - trained_by - set(NO_NUMBERS)
        if not name.startswith((*NO_NUMBERS_PACKAGES, *BY_TASK))
    }
    assert unknown == set()


def test_every_adapter_of_an_architecture_is_part_of_it():
    files = (Path(__file__).parents[3] / "custom_attention" / "adapters").glob("[!_]*.py")
    assert sorted(path.stem for path in files) == list(identity.TRAINING["custom_attention.adapters"])


# ---- sources that were hashed before a run asks
ENGINE = "pipelines.train.engine"


@pytest.fixture
def engine(tmp_path, monkeypatch) -> Path:
    """Return the file that is read as the source of a module of training."""
    find = source.find_module
    copy = tmp_path / "engine.py"
    copy.write_text(find(ENGINE).read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(source, "find_module", lambda asked: copy if asked == ENGINE else find(asked))
    return copy


def test_a_source_that_changes_after_the_fork_server_has_hashed_it_is_another_run(engine, fresh_caches):
    identity.read_sources()
    before = described()
    engine.write_text(f"{engine.read_text(encoding='utf-8')}\nANOTHER = 1\n", encoding="utf-8")
    os.utime(engine, ns=(0, engine.stat().st_mtime_ns + 1))  # the clock of the disk may not have moved on
    fresh_caches()
    assert [line.split(":")[0] for line in identity.differences(before, described())] == [f"sources.{ENGINE}"]


def test_a_run_hashes_no_source_that_the_fork_server_has_hashed(engine, monkeypatch, fresh_caches):
    identity.read_sources()
    before = described()["sources"]
    fresh_caches()
    monkeypatch.setattr(fingerprint, "normal_form", lambda tree: pytest.fail("hashed again"))
    assert described(task="ner")["sources"] == before


def test_a_source_that_cannot_be_read_is_said_by_the_run_and_not_before_it(engine):
    engine.write_text("def broken(:\n", encoding="utf-8")
    identity.read_sources()
    with pytest.raises(UserError, match="is not valid Python"):
        described()


# ---- a user's own variants
def write_variant(folder: Path, factor: float) -> None:
    (folder / "own_variant.py").write_text(
        "import json\nimport torch\nfrom custom_attention import Variant\nfrom own_helper import FACTOR\n\n\n"
        "class Own(Variant):\n    def gain(self, query, key, value):\n        return FACTOR\n"
    )
    (folder / "own_helper.py").write_text(f"FACTOR = {factor}\n")


def test_another_variant_in_the_working_folder_makes_another_run(tmp_path, monkeypatch, fresh_caches):
    monkeypatch.syspath_prepend(tmp_path)
    attention = ["own_variant:Own"]
    found = []
    for factor in (1.0, 2.0):
        write_variant(tmp_path, factor)
        fresh_caches()
        found.append(described(attention=attention))
    changed = [line.split(":")[0] for line in identity.differences(*found)]
    assert changed == ["sources.own_helper"]
    assert {"own_variant", "custom_attention.variant"} <= found[0]["sources"].keys()
    assert not {"json", "torch", "custom_attention.export"} & found[0]["sources"].keys()


def test_a_package_of_its_own_is_followed_through_relative_imports(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "own_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "scale.py").write_text("SCALE = 2\n")
    (package / "gate.py").write_text("from .scale import SCALE\n")
    assert fingerprint.fingerprints("own_package.gate").keys() == {"own_package.gate", "own_package.scale"}


# ---- train
def test_train_refuses_to_go_on_with_another_helper_and_ignores_a_comment(tmp_path, append, capsys):
    run = tmp_path / "run.yaml"
    run.write_text(yaml.safe_dump(REAL | {"num_epochs": 1}))
    command = ["train", str(run), "--out", str(tmp_path / "run")]
    assert main(command) == 0
    manifest = (tmp_path / "run" / "manifest.json").stat().st_mtime_ns
    append(HELPER, "# a comment")
    assert main(command) == 0
    assert (tmp_path / "run" / "manifest.json").stat().st_mtime_ns == manifest
    append(HELPER, "ANOTHER = 1")
    assert main(command) == 2
    assert f"this folder holds another run: sources.{HELPER}" in capsys.readouterr().err


def test_a_hash_needs_no_torch():
    code = (
        "import sys; from pipelines.runs import identity; from pipelines.config.load import run_from_dict; "
        f"identity.describe(run_from_dict({REAL!r})); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
