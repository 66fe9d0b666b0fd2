"""Which models are at hand, and what each is, without loading it.

`find_models`      the catalogue, the folders given, the hub's cache
`describe_model`   one model by what `load_model` takes: a catalogue name, folder, .gguf file or hub id
`ask_hub`          the same of a hub id that is not on this computer: one request, made when somebody asks
`fetch_model`      bring its files here, so that loading it only reads; `check_conversion` says no where that takes too much
`memory_needed`    bytes with a run of usual length

Sizes come from the files, numbers of parameters from the headers of safetensors, the rest from config.json. All of this may
have been written by anybody: what becomes text is one plain line, what becomes a number is checked. Nothing here needs torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

from .card import HUB_ID, plain
from .catalogue import Entry
from .conversion import Progress
from .download import FORMAT, MANIFEST, default_cache_dir, is_converted
from .errors import ModelNotAvailable
from .footprint import free_memory
from .gguf_header import read_gguf_header
from .models import CATALOGUE, DEFAULT_MODEL

KINDS = ("catalogue", "folder", "gguf", "hub")
MOST_FOUND = 200
MOST_LOOKED_AT = 2000  # entries of a folder
MOST_HEADER = 50_000_000  # bytes of a safetensors header; a large model's has some hundred thousand
MOST_TEXT = 20_000_000  # bytes of a config.json or an index
USUAL_TOKENS = 2048  # of a run, for `memory_needed`
QUANTIZED = {"8bit": 1.25, "4bit": 0.8}  # bytes of a number; those of the vocabulary stay as they are
CONVERTED = 4  # bytes of a number while a .gguf file is converted, and in the folder that comes of it
ROOM = 150_000_000  # bytes: tokenizer, activations
LICENCES = {DEFAULT_MODEL: "Apache-2.0"}  # of the catalogue, whose packages name it and not the files
HUB_SECONDS = 8.0
PICKLED = "It has no weights as .safetensors; other formats can run code and are not read."
SPLIT = re.compile(r"-\d{5}-of-\d{5}")


@dataclass(frozen=True)
class LocalModel:
    """A model that can be asked for. name: what `load_model` takes; title: one plain line. folder: where its files are, None
    where they must be fetched first. file_bytes: of its weights, or of the download. What is not known is 0 or "".

    problem: why it cannot be loaded, as a sentence.
    """

    name: str
    title: str
    kind: str
    folder: Path | None = None
    file_bytes: int = 0
    parameters: int = 0
    dtype: str = ""
    quantized: bool = False
    layers: int = 0
    heads: int = 0
    cache_numbers: int = 0  # that a token leaves in the key cache
    context: int = 0
    architecture: str = ""
    licence: str = ""
    problem: str = ""
    fetched: bool = True

    @property
    def shape(self) -> tuple[int, int]:
        return self.layers, self.heads


def find_models(
    folders: Iterable[str | Path] = (), *, cache_dir: Path | None = None, hub_cache: Path | None = None
) -> list[LocalModel]:
    """The catalogue's models, those in the folders (and in folders in them), and those in the hub's cache, in this order."""
    found = [describe_model(name, cache_dir=cache_dir) for name in CATALOGUE]
    for folder in folders:
        found += [describe_model(str(path)) for path in _places(Path(os.path.expanduser(folder)))]
    found += [describe_model(hub_id, hub_cache=hub_cache) for hub_id in _hub_ids(hub_cache or hub_home())]
    return list({model.name: model for model in found}.values())


def describe_model(name: str, *, cache_dir: Path | None = None, hub_cache: Path | None = None) -> LocalModel:
    """The model of this name, as far as the files here tell. Raises ModelNotAvailable where the name can be none."""
    if name in CATALOGUE:
        return _of_catalogue(name, cache_dir or default_cache_dir())
    path = Path(os.path.expanduser(name))  # Path's own raises where there is no such user
    with contextlib.suppress(OSError, ValueError):  # a name too long for any file, or with a zero in it
        if name and path.is_file() and path.suffix == ".gguf":
            return _of_gguf(name, path)
        if name and path.is_dir():
            model = LocalModel(name, _title(path), "folder", path, licence=_licence(path))
            return _of_folder(model, path)
        if name and path.exists():
            raise ModelNotAvailable(
                f"{plain(name, 80)!r} is a file, but not a .gguf file; give a .gguf file or a folder."
            )
    if not HUB_ID.fullmatch(name):
        raise ModelNotAvailable(
            f"There is no folder or file {plain(name, 120)!r}, and it is no hub id (owner/name)."
        )
    folder = _snapshot((hub_cache or hub_home()) / f"models--{name.replace('/', '--')}")
    if folder is None:
        return LocalModel(name, name, "hub", fetched=False)
    return _of_folder(LocalModel(name, name, "hub", folder, licence=_licence(folder)), folder)


def ask_hub(hub_id: str, *, endpoint: str | None = None, seconds: float = HUB_SECONDS) -> LocalModel:
    """What the hub says of a model that is not here. Raises ModelNotAvailable where it does not answer, or has none."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        told = HfApi(endpoint=endpoint).model_info(hub_id, files_metadata=True, timeout=seconds)
    except GatedRepoError as error:
        raise ModelNotAvailable(
            f"{plain(hub_id, 80)} asks for your consent on the hub before it can be fetched."
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelNotAvailable(f"The hub has no model {plain(hub_id, 80)}; check the name.") from error
    except Exception as error:  # whatever the connection makes the client raise
        raise ModelNotAvailable(
            f"The hub cannot be reached from this computer ({type(error).__name__}), and {plain(hub_id, 80)} is not in its "
            "cache; check the connection, or give a folder or a .gguf file."
        ) from error
    sizes = {
        str(file.rfilename): int(file.size or 0)
        for file in told.siblings or []
        if str(file.rfilename).endswith(".safetensors")
    }
    weights = sum(size for name, size in sizes.items() if "/" not in name and not name.startswith("consol"))
    card = told.card_data.to_dict() if told.card_data else {}
    model = LocalModel(
        hub_id, hub_id, "hub", file_bytes=weights, licence=_one_licence(card), fetched=False,
        parameters=_count(getattr(told.safetensors, "total", 0)),
    )  # fmt: skip
    if not weights:
        return replace(model, problem=PICKLED)
    return model


def fetch_model(name: str, progress: Progress) -> Path:
    """The folder with the model's files, downloaded or converted if they are not there yet. Raises ModelNotAvailable."""
    from .models import _folder, _quiet_transformers

    check_conversion(name)
    with _quiet_transformers():
        return _folder(name, default_cache_dir(), progress)


def check_conversion(name: str) -> None:
    """Raises ModelNotAvailable where memory or disk do not suffice to convert a .gguf file, which has not been done yet: all of
    its numbers are held in float32 meanwhile, beside the model that is loaded, and written."""
    path, cache_dir = Path(os.path.expanduser(name)), default_cache_dir()
    try:
        if path.suffix != ".gguf" or not path.is_file() or is_converted(path, cache_dir):
            return
        model = _of_gguf(name, path)
        place = next(folder for folder in (cache_dir, *cache_dir.absolute().parents) if folder.is_dir())
        disk = shutil.disk_usage(place).free
    except (OSError, ValueError):  # loading says what is wrong
        return
    needed, memory = CONVERTED * model.parameters, free_memory()
    if needed and needed + ROOM > memory:
        raise ModelNotAvailable(
            f"Converting {model.title} takes {_gigabytes(needed + ROOM)} of memory for a while, beside what is loaded, and "
            f"{_gigabytes(memory)} is free; unload the present model first, or close other programs."
        )
    if needed > disk:
        raise ModelNotAvailable(
            f"Converting {model.title} takes {_gigabytes(needed)} on the disk, and {_gigabytes(disk)} is free there; make "
            "room, or let AT2_CACHE name a folder on another disk."
        )


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB"


def memory_needed(model: LocalModel, bytes_of_number: int, quantize: str = "") -> int:
    """Bytes of the loaded model with a run of usual length; 0 where its size is not known. quantize: as in `load_model`."""
    if model.quantized:
        weights = model.file_bytes
    else:
        weights = int(model.parameters * min(bytes_of_number, QUANTIZED.get(quantize, bytes_of_number)))
    if not weights:
        return 0
    return weights + 2 * USUAL_TOKENS * model.cache_numbers * bytes_of_number + ROOM


def estimators_of(model: LocalModel, entries: Iterable[Entry], fingerprint: str = "") -> list[Entry]:
    """The estimators that are for this model: by its weights where the fingerprint of these is given, else by its name."""
    found = []
    for entry in entries:
        estimator = entry.estimator
        if estimator is None or (model.layers and entry.shape != model.shape):
            continue
        if fingerprint and estimator.model_fingerprint:
            fits = estimator.model_fingerprint == fingerprint
        else:
            fits = estimator.model in (model.name, model.title)
        found += [entry] if fits else []
    return found


def hub_home() -> Path:
    """The hub's own cache."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


# ------------------------------------------------------------------------------------------------ where they are


def _places(folder: Path) -> list[Path]:
    """Model folders and .gguf files: the folder itself, what is in it, and what is in the folders in it."""
    if (folder / "config.json").is_file():
        return [folder]
    found: list[Path] = []
    for path in _listed(folder):
        if _is_model(path):
            found.append(path)
        elif path.is_dir() and not path.name.startswith("."):
            found += [inner for inner in _listed(path) if _is_model(inner)]
        if len(found) >= MOST_FOUND:
            break
    return found[:MOST_FOUND]


def _listed(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(folder / entry.name for entry in islice(entries, MOST_LOOKED_AT))
    except OSError:  # not there, or not for us
        return []


def _is_model(path: Path) -> bool:
    try:
        if path.suffix == ".gguf":
            return path.is_file()
        return (path / "config.json").is_file()
    except OSError:
        return False


def _hub_ids(cache: Path) -> list[str]:
    names = (path.name.removeprefix("models--").replace("--", "/", 1) for path in _listed(cache)
             if path.name.startswith("models--") and _snapshot(path))  # fmt: skip
    return [name for name in names if HUB_ID.fullmatch(name)][:MOST_FOUND]


def _snapshot(repository: Path) -> Path | None:
    """The folder of the version that the hub client would take, where its weights are there."""
    try:
        revision = (repository / "refs" / "main").read_text(encoding="utf-8").strip()
        folder = repository / "snapshots" / revision
        if re.fullmatch(r"[0-9a-f]{6,64}", revision) and _is_model(folder):
            return folder if any(folder.glob("*.safetensors")) else None
    except (OSError, ValueError):
        pass
    return None


# ------------------------------------------------------------------------------------------------ what they are


def _of_catalogue(name: str, cache_dir: Path) -> LocalModel:
    entry = CATALOGUE[name]
    folder = cache_dir / "models" / f"{name}-{entry.wheel_sha256[:12]}-{FORMAT}"
    model = LocalModel(name, name, "catalogue", licence=LICENCES.get(name, ""), context=entry.max_length)
    if not (folder / MANIFEST).is_file():
        return replace(model, file_bytes=entry.wheel_bytes, fetched=False)
    return replace(_of_folder(replace(model, folder=folder), folder), context=entry.max_length)


def _of_folder(model: LocalModel, folder: Path) -> LocalModel:
    config = _json(folder / "config.json")
    if config is None:
        return replace(model, problem="It has no config.json that can be read, so it is no model.")
    text = config.get("text_config") if isinstance(config.get("text_config"), dict) else {}
    values: Mapping[str, Any] = {**config, **(text or {})}
    layers = _count(_first(values, "num_hidden_layers", "n_layer", "num_layers"))
    heads = _count(_first(values, "num_attention_heads", "n_head", "num_heads"))
    hidden = _count(_first(values, "hidden_size", "n_embd", "d_model"))
    width = _count(values.get("head_dim")) or (hidden // heads if heads else 0)
    kv_heads = _count(values.get("num_key_value_heads")) or heads
    names = config.get("architectures")
    architecture = names[0] if isinstance(names, list) and names else config.get("model_type", "")
    model = replace(
        model,
        layers=layers,
        heads=heads,
        cache_numbers=2 * layers * kv_heads * width,
        context=_count(_first(values, "max_position_embeddings", "n_positions", "max_sequence_length")),
        architecture=plain(architecture, 60) if isinstance(architecture, str) else "",
        quantized=isinstance(config.get("quantization_config"), dict),
    )
    return replace(_weights(model, folder), problem=_why_not(config, folder))


def _weights(model: LocalModel, folder: Path) -> LocalModel:
    """With the size of the weights, their number and the kind of most of them."""
    size, kinds = 0, dict[str, int]()
    for file in sorted(folder.glob("*.safetensors"))[:MOST_LOOKED_AT]:
        if file.name.startswith("consolidated"):  # the same weights once more, for other programs
            continue
        with contextlib.suppress(OSError):
            size += file.stat().st_size
            for kind, numbers in _header(file):
                kinds[kind] = kinds.get(kind, 0) + numbers
    most = max(kinds, key=kinds.__getitem__, default="")
    return replace(model, file_bytes=size, parameters=_count(sum(kinds.values())), dtype=plain(most, 12))


def _header(file: Path) -> list[tuple[str, int]]:
    """(kind, number of numbers) of each tensor in a safetensors file; nothing where it is damaged."""
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if length > min(MOST_HEADER, file.stat().st_size):
                return []
            tensors = json.loads(opened.read(length))
        return [
            (str(about["dtype"]), prod(_count(size) for size in about["shape"]))
            for name, about in tensors.items()
            if name != "__metadata__"
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []


def _why_not(config: Mapping[str, Any], folder: Path) -> str:
    """The problem, where the files show one without loading; "" where they show none."""
    files = {file.name for file in folder.glob("*.safetensors")}
    index = _json(folder / "model.safetensors.index.json") or {}
    parts = index.get("weight_map")
    missing = {v for v in parts.values() if isinstance(v, str)} - files if isinstance(parts, dict) else set()
    if not files:
        return PICKLED
    if missing:
        return f"It is incomplete: {len(missing)} of its weight files are not there."
    if config.get("is_encoder_decoder") is True:
        return "It is no decoder-only model: its prompt is read by an encoder."
    return ""


def _of_gguf(name: str, path: Path) -> LocalModel:
    model = LocalModel(name, _title(path), "gguf", path, file_bytes=path.stat().st_size)
    try:
        header = read_gguf_header(path)
    except ModelNotAvailable as error:
        return replace(model, problem=str(error))
    layers = _count(header.of_architecture("block_count"))
    heads = _count(header.of_architecture("attention.head_count"))
    kv_heads = _count(header.of_architecture("attention.head_count_kv")) or heads
    width = _count(header.of_architecture("attention.key_length")) or (
        _count(header.of_architecture("embedding_length")) // heads if heads else 0
    )
    problem = (
        "It is one part of a model in several files; join them first." if SPLIT.search(path.stem) else ""
    )
    return replace(
        model,
        parameters=_count(header.parameters),
        dtype="GGUF",
        layers=layers,
        heads=heads,
        cache_numbers=2 * layers * kv_heads * width,
        context=_count(header.of_architecture("context_length")),
        architecture=plain(header.values.get("general.architecture", ""), 60),
        licence=plain(header.values.get("general.license", ""), 60),
        problem=problem,
    )


def _licence(folder: Path) -> str:
    """What the front matter of the README names."""
    try:
        with (folder / "README.md").open(encoding="utf-8", errors="replace") as file:
            text = file.read(20_000)
    except (OSError, ValueError):
        return ""
    matter = re.match(r"---\s*\n(.*?)\n---", text, re.DOTALL)
    if not matter:
        return ""
    named = dict(re.findall(r"^(license|license_name):[ \t]*(.+)$", matter[1], re.MULTILINE))
    return _one_licence({key: value.strip().strip("\"'") for key, value in named.items()})


def _one_licence(card: Mapping[str, Any]) -> str:
    licence = card.get("license")
    licence = licence[0] if isinstance(licence, list) and licence else licence
    if licence == "other" and card.get("license_name"):
        licence = card["license_name"]
    return plain(licence, 60) if isinstance(licence, str) else ""


def _title(path: Path) -> str:
    with contextlib.suppress(OSError):
        path = path.resolve()
    return plain(path.name, 80) or "a folder without a readable name"


def _first(values: Mapping[str, Any], *names: str) -> Any:
    return next((values[name] for name in names if values.get(name) is not None), None)


def _count(value: Any) -> int:
    """A positive whole number that a model could have; 0 for anything else."""
    return value if type(value) is int and 0 < value < 1 << 50 else 0


def _json(path: Path) -> dict[str, Any] | None:
    try:
        if path.stat().st_size > MOST_TEXT:
            return None
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
