# SPDX-License-Identifier: BSD-3-Clause
"""torchvision's residual networks, by its own sources, with any torch and without its compiled operators.

`scripts/install-torchvision` brings the sources. Importing the package would load operators that fit one torch each, and image
libraries; so the packages are made here, empty, and of what models/resnet.py imports only the two names that have to do with
images or statistics of use are replaced. What is pickled is called torchvision.models.resnet.ResNet, as everywhere.
"""
from __future__ import annotations

import importlib
import os
import sys
import types
from pathlib import Path

import torch

VERSION = "0.14.1" if torch.__version__.startswith("1.") else "0.29.2"
FOLDER = Path(os.environ.get("CKPT_CACHE") or Path.home() / ".cache" / "ckpt") / f"torchvision-{VERSION}"


def package(name: str, **content: object) -> None:
    """A package whose modules are found, and whose own code doesn't run."""
    made = types.ModuleType(name)
    made.__path__ = [str(FOLDER.joinpath(*name.split(".")))]
    vars(made).update(content)
    sys.modules[name] = made


def resnet() -> types.ModuleType:
    """The module torchvision.models.resnet. Raises ModuleNotFoundError where the sources are not."""
    if not FOLDER.exists():
        raise ModuleNotFoundError(f"there is no {FOLDER}: run scripts/install-torchvision")
    package("torchvision", __version__=VERSION)
    package("torchvision.models")
    package("torchvision.transforms")
    package("torchvision.transforms._presets", ImageClassification=object)
    package("torchvision.utils", _log_api_usage_once=lambda _: None)
    return importlib.import_module("torchvision.models.resnet")
