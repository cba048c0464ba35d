#!/usr/bin/env python3
"""Rewrites requirements.txt, requirements-cuda.txt and requirements-tests.txt: every package with its version and the
sha256 of its wheels for each Python below (x86_64 Linux). Run it after changing WANTED, with a recent pip; then run
launch/setup on a bare machine. Each file is complete in itself and is installed with --no-deps --require-hashes."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = "requirements-tests.txt"
WANTED = {
    "requirements.txt": ["torch==2.11.0", "nvidia-cuda-runtime==13.0.96", "nvidia-cuda-cupti==13.0.85",
                         "cmake==4.4.4", "ninja==1.13.2"],
    TESTS: ["numpy==2.4.6", "safetensors==0.8.0", "h5py==3.16.0",
            "tensorboard==2.21.0", "protobuf==7.36.2", "absl-py==2.5.1"],
}
REST = "requirements-cuda.txt"  # what else torch asks for
WHAT = {
    "requirements.txt": "LibTorch, the two CUDA libraries that even its CPU half loads, and the build tools: enough to\n"
                        "# build and run on CPUs.",
    REST: "What else torch depends on: the libraries that its CUDA half loads (NCCL, cuBLAS, cuDNN, ...).",
    TESTS: "What tests read files with, independently of our own code.",
}
PYTHONS = ["3.11", "3.12"]


def resolve(python, words, *flags):
    """[(name, version, sha256)] of everything that `words` need under this Python."""
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(36, 4, -1)] + \
                ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed", "--only-binary",
                   ":all:", "--target", folder, "--report", str(report), "--python-version", python]
        for platform in platforms:
            command += ["--platform", platform]
        subprocess.run([*command, *flags, *words], check=True)
        installs = json.loads(report.read_text())["install"]
    return [(i["metadata"]["name"].lower(), i["metadata"]["version"], i["download_info"]["archive_info"]["hashes"]["sha256"])
            for i in installs]


def main():
    pins = {}
    for python in PYTHONS:
        # TensorBoard's reader of event files needs none of the server's packages.
        several = resolve(python, WANTED[TESTS], "--no-deps") + \
            resolve(python, [word for file in WANTED if file != TESTS for word in WANTED[file]])
        for name, version, digest in several:
            pins.setdefault((name, version), set()).add(digest)
    file_of = {words.split("==")[0]: file for file, several in WANTED.items() for words in several}
    for file in [*WANTED, REST]:
        lines = [f"# {WHAT[file]}", f"# Written by launch/pin.py for Python {', '.join(PYTHONS)} on x86_64 Linux."]
        for (name, version), digests in sorted(pins.items()):
            if file_of.get(name, REST) == file:
                lines.append(" \\\n    ".join([f"{name}=={version}", *(f"--hash=sha256:{d}" for d in sorted(digests))]))
        Path(__file__).with_name(file).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
