#!/usr/bin/env python3
"""check_layers.py [ROOT]: reads the #include lines of all own sources and fails when
  - a folder includes another against the house's directions,
  - a library's header appears outside the files that own it, or where only a .cpp may have it,
  - a .cpp does not include its own header first, or a header lacks #pragma once,
  - a file has more than 400 lines.
Tests may include everything. Needs nothing but Python's standard library."""

import re
import sys
from pathlib import Path

# What each folder may include of ours, itself excepted. "a -> b" in the README's map.
MAY_INCLUDE = {
    "dataio": [],
    "parallel": [],
    "trainer/model": ["trainer/kernels"],
    "trainer/kernels": [],
    "trainer/optim": ["trainer/kernels"],
    "trainer/train": ["trainer/model", "trainer/kernels", "trainer/optim", "parallel", "dataio"],
    "trainer/study": ["trainer/train"],
    "trainer/cli": ["trainer/model", "trainer/kernels", "trainer/optim", "trainer/train", "trainer/study", "parallel",
                    "dataio"],
}

# (what is included, files that may): the first pattern is matched against the header, the second searched in the
# file's path.
OWNERS = [
    (r"mpi\.h$", r"^parallel/mpi_\w+\.(cpp|h)$"),
    (r"(hdf5|H5\w+)\.h$", r"^dataio/h5\w*\.(cpp|h)$"),
    (r"nccl\.h$", r"^parallel/(\w*nccl\w*|device_cuda)\.(cpp|h)$"),
    (r"(cu(da|blas)\w*\.h|(c10|ATen|torch/csrc)/cuda/.*)$", 
     r"^parallel/\w*(cuda|nccl)\w*\.(cpp|h|cu)$|^trainer/kernels/(\w*cuda\w*\.(cpp|h|cuh)|\w+\.cu)$"),
    (r"boost/", r"^trainer/cli/(arguments|syntax|option_\w+)\.cpp$"),
    (r"(nlohmann|spdlog)/", r"\.cpp$"),
    (r"fmt/", r"\.cpp$|^trainer/cli/option_rows\.h$"),
    (r"(ceres|Eigen)/", r"^trainer/study/fit/solver\.cpp$"),
    (r"(sentencepiece\w*|xxhash)\.h$", r"\.cpp$|_internal\.h$"),
    (r"(ATen|c10|torch)/", r"^(?!dataio/)(?!.*\.cuh?$)"),  # kernels take plain pointers: nvcc is slow enough alone
    (r"ATen/cpu/vec/", r"^trainer/kernels/host_vectors_internal\.h$"),
    (r"(ATen/ATen\.h|ATen/Functions\.h|torch/(torch|all|types)\.h|torch/nn.*)$", r"(?!)"),  # nobody: too broad to compile
    (r"(ATen/ops/.*|torch/csrc/.*)$", r"\.(cpp|cu)$|_internal\.h$"),
]

MAX_LINES = 400
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)


def room_of(path):
    """The folder of ours that a path from the root lies in, the innermost one, or None."""
    return max((room for room in MAY_INCLUDE if path.startswith(room + "/")), key=len, default=None)


def check_directions(name, includes, faults):
    room = room_of(name)
    for header in includes:
        target = room_of(header)
        if target and target != room and target not in MAY_INCLUDE[room]:
            allowed = ", ".join(MAY_INCLUDE[room]) or "nothing of ours"
            faults.append(f"{name}: includes {header}; {room} may include {allowed}")


def check_owners(name, includes, faults):
    for header in includes:
        for pattern, owner in OWNERS:
            if re.match(pattern, header) and not re.search(owner, name):
                faults.append(f"{name}: includes <{header}>, which belongs elsewhere (files that match {owner})")


def check_form(root, name, text, includes, faults):
    if text.count("\n") > MAX_LINES:
        faults.append(f"{name}: {text.count(chr(10))} lines; at most {MAX_LINES}")
    if name.endswith(".h") and not re.search(r"^#pragma once$", text, re.M):
        faults.append(f"{name}: lacks #pragma once")
    own = name.rsplit(".", 1)[0] + ".h"
    if name.endswith(".cpp") and (root / own).exists() and (not includes or includes[0] != own):
        faults.append(f"{name}: its own header {own} must be included first")


def check_study(root, name, includes, faults):
    """study takes plain structs of train: a header that reaches no library, directly or through ours."""
    for header in includes:
        if not header.startswith("trainer/train/"):
            continue
        seen, queue = set(), [header]
        while queue:
            now = queue.pop()
            path = root / now
            if now in seen or not path.exists():
                continue
            seen.add(now)
            for mark, inner in INCLUDE.findall(path.read_text()):
                if re.match(r"(ATen|c10|torch|boost)/|mpi\.h|hdf5\.h", inner):
                    faults.append(f"{name}: includes {header}, which reaches <{inner}> through {now}")
                elif mark == '"':
                    queue.append(inner)


def check_tree(root):
    """All faults of the tree at root, as lines, and the number of sources read."""
    faults = []
    folders = ("dataio", "parallel", "trainer", "tests")
    files = sorted(p for folder in folders for p in (root / folder).rglob("*") if p.suffix in (".h", ".cpp", ".cu", ".cuh", ".py"))
    sources = [p for p in files if p.suffix != ".py"]
    if not sources:
        faults.append(f"{root}: no sources found")
    for path in files:
        name = path.relative_to(root).as_posix()
        text = path.read_text()
        includes = [header for _, header in INCLUDE.findall(text)] if path.suffix != ".py" else []
        if room_of(name):
            check_directions(name, includes, faults)
            check_owners(name, includes, faults)
            if room_of(name) == "trainer/study":
                check_study(root, name, includes, faults)
        check_form(root, name, text, includes, faults)
    return faults, len(sources)


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent).resolve()
    faults, count = check_tree(root)
    for fault in faults:
        print(fault)
    print(f"{count} sources checked, {len(faults)} faults")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
