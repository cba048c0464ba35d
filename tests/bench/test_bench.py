"""The bench scripts' own parts, without torch and without a GPU: settings, FLOPs, and programs that fail or hang."""

import pathlib
import sys
import tempfile
import time
import unittest

import settings
import side_by_side


class Settings(unittest.TestCase):
    def test_later_files_and_the_command_line_win(self):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, "more.ini")
            file.write_text("[model]\nlayers = 3  # fewer\nseq_len = 32\n")
            words = ["--config", str(side_by_side.ROOT / "configs/models/base.ini"), "--model.seq_len=64", f"--config={file}"]
            self.assertEqual(settings.model_sizes(settings.read(words)),
                             {"layers": 3, "d_model": 512, "d_ffn": 3072, "seq_len": 64})

    def test_a_model_that_the_peer_is_not_is_refused(self):
        for words in (["--model.tied=false"], ["--model.positions=sinusoidal"], ["--model.kind=amlp"],
                      ["--model.kind=transformer"], ["--config", str(side_by_side.ROOT / "configs/models/llama_small.ini")]):
            with self.assertRaises(SystemExit):
                settings.read(words)

    def test_flops_of_a_small_model_by_hand(self):
        values = settings.read(["--model.layers=2", "--model.d_model=4", "--model.d_ffn=8", "--model.seq_len=3"])
        # A sequence of 3 tokens, one block: 3 products of 4x8 and 3 of 4x4 per channel projections; 1 + 2 + 3 weights of
        # the triangle for each of 4 gate channels; then 3 products of 4x10 for the head. Two FLOPs each, backward twice.
        products = 2 * (3 * 4 * 8 + 3 * 4 * 4 + (1 + 2 + 3) * 4) + 3 * 4 * 10
        self.assertEqual(3 * settings.flops_per_token(values, vocabulary=10), 3 * 2 * products)

    def test_flops_of_a_small_transformer_by_hand(self):
        values = settings.read(["--model.kind=transformer", "--model.positions=learned", "--model.gelu=tanh", "--model.layers=2",
                                "--model.d_model=4", "--model.d_ffn=8", "--model.seq_len=3"])
        # Three tokens, one block: 4 products of 4x4 and 2 of 4x8 over channels; 1 + 2 + 3 pairs of positions, of 4 channels for
        # the scores and as many for their mixture.
        products = 2 * (3 * (4 * 4 * 4 + 2 * 4 * 8) + (1 + 2 + 3) * (4 + 4)) + 3 * 4 * 10
        self.assertEqual(3 * settings.flops_per_token(values, vocabulary=10), 3 * 2 * products)

    def test_the_sizes_are_those_of_the_comparison(self):
        shapes = {name: (*settings.model_sizes(settings.read(size.words())).values(), size.batch)
                  for name, size in side_by_side.SIZES.items()}
        self.assertEqual(shapes, {
            "base": (48, 512, 3072, 512, 64), "base16": (48, 512, 3072, 512, 16), "n128": (48, 512, 3072, 128, 256),
            "large": (96, 768, 3072, 512, 32), "wide": (16, 2048, 8192, 512, 32), "n4096": (16, 512, 3072, 4096, 8),
            "n16384": (4, 512, 3072, 16384, 2), "gpt2": (12, 768, 3072, 1024, 32)})


class Programs(unittest.TestCase):
    def run_python(self, text, limit_s=20):
        with tempfile.TemporaryDirectory() as folder:
            return side_by_side.run([sys.executable, "-c", text], pathlib.Path(folder, "log"), limit_s)

    def test_the_last_json_line_is_the_result(self):
        result = self.run_python("print('{\"a\": 1}'); print('{\"step_s\": {\"median\": 3}}'); print('bye')")
        self.assertEqual(side_by_side.number(result, "step_s.median", scale=2), 6)
        self.assertIsNone(side_by_side.number(result, "step_s.nothing"))
        self.assertNotIn("failed", result)

    def test_a_program_that_fails_is_told_with_its_last_words(self):
        self.assertIn("exit code 3: no such thing",
                      self.run_python("import sys; print('{\"a\": 1}'); print('no such thing'); sys.exit(3)")["failed"])

    def test_of_many_last_words_the_error_is_told(self):
        self.assertEqual(side_by_side.last_words(["torch.OutOfMemoryError: full", "-----", "mpirun detected that", "--"]),
                         "torch.OutOfMemoryError: full")
        self.assertEqual(side_by_side.last_words(["a", "b", "---"]), "b")
        self.assertEqual(side_by_side.last_words([]), "it printed nothing")

    def test_a_program_that_hangs_is_ended(self):
        began = time.monotonic()
        self.assertIn("not done within", self.run_python("import time; time.sleep(600)", limit_s=5.5)["failed"])
        self.assertLess(time.monotonic() - began, 300)

    def test_nothing_begins_when_the_time_is_up(self):
        self.assertIn("not begun", self.run_python("print('{}')", limit_s=1)["failed"])


if __name__ == "__main__":
    unittest.main()
