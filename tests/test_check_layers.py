#!/usr/bin/env python3
"""check_layers.py finds each kind of fault in a small tree that has it, and none in one that has not."""

import tempfile
import unittest
from pathlib import Path

from check_layers import check_tree

GOOD = {
    "dataio/order.h": "#pragma once\n#include <cstdint>\n",
    "dataio/order.cpp": '#include "dataio/order.h"\n#include <xxhash.h>\n',
    "parallel/mpi_communicator.cpp": "#include <mpi.h>\n",
    "trainer/train/loop.cpp": '#include "dataio/order.h"\n',
    "trainer/train/plain.h": "#pragma once\n#include <string>\n",
    "trainer/kernels/cuda_launch.h": "#pragma once\n#include <cuda_runtime_api.h>\n",
    "trainer/kernels/update.cu": '#include <cuda_bf16.h>\n#include "trainer/kernels/cuda_launch.h"\n',
    "trainer/kernels/update_cuda.cpp": "#include <ATen/ops/mm.h>\n#include <c10/cuda/CUDAStream.h>\n",
    "trainer/study/report.cpp": '#include "trainer/train/plain.h"\n',
    "tests/unit/dataio/order_test.cpp": '#include <hdf5.h>\n#include "trainer/train/plain.h"\n',
}

BAD = {  # one file each, and a word of the fault it must give
    "dataio/a.cpp": ('#include "parallel/arena.h"\n', "dataio may include nothing of ours"),
    "parallel/a.cpp": ('#include "dataio/order.h"\n', "parallel may include nothing of ours"),
    "trainer/model/a.cpp": ('#include "dataio/order.h"\n', "trainer/model may include"),
    "trainer/kernels/a.cpp": ('  #  include "parallel/arena.h"\n', "trainer/kernels may include"),
    "trainer/kernels/b.cu": ("#include <ATen/core/Tensor.h>\n", "<ATen/core/Tensor.h>"),
    "trainer/kernels/c.cpp": ("#include <cuda_runtime.h>\n", "<cuda_runtime.h>"),
    "trainer/kernels/d.h": ("#pragma once\n#include <cuda_bf16.h>\n", "<cuda_bf16.h>"),
    "trainer/study/a.cpp": ('#include "trainer/train/heavy.h"\n', "reaches <ATen/core/Tensor.h>"),
    "trainer/train/a.cpp": ("#include <mpi.h>\n", "<mpi.h>"),
    "trainer/train/b.cpp": ("#include <hdf5.h>\n", "<hdf5.h>"),
    "trainer/train/c.cpp": ("#include <cuda_runtime_api.h>\n", "<cuda_runtime_api.h>"),
    "trainer/train/d.cpp": ("#include <boost/program_options.hpp>\n", "<boost/program_options.hpp>"),
    "dataio/b.cpp": ("#include <ATen/core/Tensor.h>\n", "<ATen/core/Tensor.h>"),
    "dataio/c.h": ("#pragma once\n#include <nlohmann/json.hpp>\n", "<nlohmann/json.hpp>"),
    "parallel/b.cpp": ("#include <torch/torch.h>\n", "<torch/torch.h>"),
    "parallel/c.h": ("#include <vector>\n", "#pragma once"),
    "dataio/order.cpp": ('#include <vector>\n#include "dataio/order.h"\n', "must be included first"),
    "tests/unit/long_test.cpp": ("\n" * 401, "401 lines"),
}


class CheckLayers(unittest.TestCase):
    def faults_of(self, changes):
        files = {**GOOD, "trainer/train/heavy.h": "#pragma once\n#include <ATen/core/Tensor.h>\n", **changes}
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return check_tree(Path(folder))[0]

    def test_a_good_tree_has_no_fault(self):
        self.assertEqual(self.faults_of({}), [])

    def test_each_fault_is_found_and_named(self):
        for name, (text, word) in BAD.items():
            with self.subTest(file=name):
                faults = self.faults_of({name: text})
                self.assertEqual(len(faults), 1, faults)
                self.assertTrue(faults[0].startswith(name + ":"), faults)
                self.assertIn(word, faults[0])

    def test_an_empty_tree_is_a_fault(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertEqual(len(check_tree(Path(folder))[0]), 1)


if __name__ == "__main__":
    unittest.main()
