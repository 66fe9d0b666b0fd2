"""How the code is cut: modules import only from their left, and the light parts stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENGINE = ROOT / "at2_core"

# Left to right; the modules of one group are neighbours that do not know each other.
ORDER = [
    {"errors"},
    {"conversion", "files"},
    {"download", "hub"},
    {"cache"},
    {"eager", "kept_prefix"},
    {"attention"},
    {"heads", "readout"},
    {"models"},
    {"tokens"},
    {"chat", "segmentation"},
    {"prompts"},
    {"plain_text", "text_blocks"},
    {"csv_text", "docx_text", "html_text", "pdf_lines"},
    {"pdf_text"},
    {"document_readers"},
    {"documents"},
    {"thoughts"},
    {"sources"},
    {"generation"},
    {"footprint"},
    {"estimator"},
    {"attribution"},
    {"exploration"},
    {"formats"},
    {"data"},
    {"ablation"},
    {"progress"},
    {"work_folder"},
    {"fitting", "runs"},
    {"run_places"},
    {"choosing", "collecting"},
    {"gradients", "rollout"},
    {"baselines", "learning", "measures", "evaluation_runs", "example_ablations", "pruning"},
    {"evaluation", "report", "verification"},
    {"cluster"},
    {"torch_archive"},
    {"card", "reference"},
    {"catalogue", "gguf_header"},
    {"local_models"},
    {"commands", "estimator_commands"},
    {"evaluation_commands"},
    {"__main__"},
]
PLACE = {module: place for place, group in enumerate(ORDER) for module in group}
MODULES = sorted(path.stem for path in ENGINE.glob("*.py") if path.stem != "__init__")
TORCH_FREE = (
    "errors", "prompts", "documents", "thoughts", "sources", "data", "exploration", "estimator", "runs", "catalogue",
    "footprint", "local_models",
)  # fmt: skip


def imports(path: Path, package: str) -> set[str]:
    """Full names of the modules that a file imports anywhere; relative ones are resolved against `package`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, [package if node.level else "", node.module]))
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("module", MODULES)
def test_an_engine_module_imports_only_from_its_left(module):
    assert module in PLACE, f"{module} has no place in the order yet"
    names = (name.split(".") for name in imports(ENGINE / f"{module}.py", "at2_core"))
    used = {parts[1] for parts in names if parts[0] == "at2_core" and len(parts) > 1} & set(MODULES)
    assert {other for other in used if PLACE.get(other, 0) >= PLACE[module]} == set()


@pytest.mark.parametrize("module", [*MODULES, "__init__"])
def test_the_engine_knows_no_front_end(module):
    tops = {name.split(".")[0] for name in imports(ENGINE / f"{module}.py", "at2_core")}
    assert tops & {"streamlit", "plotly", "pages", "app"} == set()


def test_only_the_download_reads_the_environment():
    readers = {path.stem for path in ENGINE.glob("*.py") if "environ" in path.read_text(encoding="utf-8")}
    assert readers == {"download"}


def test_nothing_is_pickled_and_no_foreign_code_is_trusted():
    calls = {
        (path.name, node.func.attr)
        for path in [*ENGINE.glob("*.py"), *(ROOT / "pages").rglob("*.py"), *ROOT.glob("*.py")]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func)
        in {"torch.load", "torch.save", "pickle.load", "pickle.loads", "pickle.dump"}
    }
    assert calls == set()
    # Nor under another name: nobody imports an unpickler. (torch_archive.py reads a pickle's instructions, and runs none.)
    unpicklers = {
        "pickle",
        "_pickle",
        "cPickle",
        "dill",
        "cloudpickle",
        "joblib",
        "torch.load",
        "torch.serialization",
    }
    packages = {
        "at2_core": ENGINE.glob("*.py"),
        "pages": (ROOT / "pages").rglob("*.py"),
        "": ROOT.glob("*.py"),
    }
    assert not [
        path.name
        for package, paths in packages.items()
        for path in paths
        if imports(path, package) & unpicklers
    ]
    assert not [
        p.name for p in ENGINE.glob("*.py") if "trust_remote_code=True" in p.read_text(encoding="utf-8")
    ]


@pytest.mark.parametrize("module", ["at2_core", *(f"at2_core.{name}" for name in TORCH_FREE)])
def test_importing_the_light_parts_loads_neither_torch_nor_transformers(module):
    script = (
        f"import sys, {module}; print(*sorted(sys.modules.keys() & {{'torch', 'transformers', 'streamlit'}}))"
    )
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_every_public_name_resolves():
    import at2_core

    assert [name for name in at2_core.__all__ if not hasattr(at2_core, name)] == []


def test_one_run_of_a_page_ends_before_the_next_one_begins():
    """Streamlit 1.67 clears every press where a run ends; of two at once, one clears what the other was begun for."""
    config = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))
    assert config["runner"]["fastReruns"] is False
