"""The bench scripts' own parts, without torch and without a GPU: settings, FLOPs, and programs that fail or hang."""

import configparser
import math
import pathlib
import sys
import tempfile
import time
import unittest
from unittest import mock

import family
import settings
import side_by_side


class Gpus(unittest.TestCase):
    def test_each_run_goes_where_the_fewest_are(self):
        with mock.patch.dict("os.environ", {"CUDA_VISIBLE_DEVICES": "4,7,9"}):
            gpus = side_by_side.Gpus(2)
        self.assertEqual([gpus.take(run)["CUDA_VISIBLE_DEVICES"] for run in "abc"], ["4", "7", "4"])
        gpus.give_back("a")
        gpus.give_back("c")
        self.assertEqual(gpus.take("d"), {"CUDA_VISIBLE_DEVICES": "4"})
        self.assertEqual(side_by_side.Gpus(1).take("a"), {}, "one GPU is seen as it is")


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


class Family(unittest.TestCase):
    def test_interval_of_three_values_by_hand(self):
        # mean 2, deviations -1, 0, 1: s = 1; t(0.975, 2) = 4.3027, half = 4.3027 / sqrt(3)
        mean, half = family.interval([1.0, 2.0, 3.0])
        self.assertEqual(mean, 2.0)
        self.assertAlmostEqual(half, 2.4842, places=3)
        self.assertEqual(family.with_interval([1.0, 2.0, 3.0], 2), "2.00 ± 2.48")
        self.assertEqual(family.with_interval([1.5], 2), "1.50")

    def test_student_t_has_its_95_percent_inside(self):
        def density(x, freedom):
            scale = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2) / math.sqrt(freedom * math.pi)
            return scale * (1 + x * x / freedom) ** (-(freedom + 1) / 2)

        for freedom, bound in enumerate(family.T95, start=1):
            steps = 20000
            width = bound / steps
            inside = 2 * width * sum(density((i + 0.5) * width, freedom) for i in range(steps))
            self.assertAlmostEqual(inside, 0.95, places=4)

    def test_parameters_that_a_causal_spatial_weight_never_reads_are_told_apart(self):
        shapes = {"embed.weight": [10, 4], "blocks.0.sgu.weight": [3, 3], "blocks.0.sgu.bias": [3], "norm.weight": [4]}
        self.assertEqual(family.parameters_of(shapes), (40 + 9 + 3 + 4, 40 + 6 + 3 + 4))

    def test_the_sweep_goes_on_at_an_edge_and_stops_inside(self):
        rates = [1.0, 2.0, 4.0]
        self.assertEqual(family.next_rate({1.0: 3.0, 2.0: 2.0, 4.0: 1.0}, rates), 8.0)
        self.assertEqual(family.next_rate({1.0: 1.0, 2.0: 2.0, 4.0: None}, rates), 0.5)
        self.assertEqual(family.next_rate({1.0: None, 2.0: None, 4.0: None}, rates), 0.5)
        self.assertIsNone(family.next_rate({1.0: 3.0, 2.0: 2.0, 4.0: 2.5}, rates))
        self.assertIsNone(family.next_rate({0.125: 0.5, 0.25: 1.0, 0.5: 2.0, 1.0: 3.0, 2.0: 4.0, 4.0: 5.0}, rates))

    def test_bits_a_byte_by_hand(self):
        # 9 predicted tokens of 2 ln 2 nats each in 6 bytes: 18 bits in 6 bytes
        corpus = {"splits": {"valid": {"tokens": 10, "text_bytes": 6}}}
        self.assertAlmostEqual(2 * math.log(2) * family.bits_of_nat(corpus), 3.0)

    def test_a_line_of_the_table(self):
        run = {"parameters": 5574144, "parameters_read": 5378304, "tokens": 13107200, "rate": 0.002, "jobs": 4}
        runs = [{**run, "loss": loss, "tokens_per_s": 1e6} for loss in (3.0, 3.1, 3.2)]
        line = family.markdown([("gmlp", "small", runs)], bits_of_nat=0.5).splitlines()[2]
        self.assertEqual(line, "| gMLP, small | 5.57 M (5.38) | 13.1 M | 0.002 | 3.1000 ± 0.2484 | 1.5500 ± 0.1242 "
                               "| 3.0000, 3.1000, 3.2000 | 1000k, 4 side by side |")
        runs[0]["tokens_per_s_alone"] = 2.5e6
        self.assertTrue(family.markdown([("gmlp", "small", runs)], 0.5).endswith("| 2500k |\n"))

    def test_configs_of_a_size_differ_in_the_model_alone_and_match_in_parameters(self):
        def gmlp(vocabulary, n, d, f, a, layers):
            attention = 3 * a * d + 3 * a + f // 2 * a + f // 2 if a else 0
            block = 2 * d + d * f + f + f + n * n + n + f // 2 * d + d + attention
            unread = layers * (n * (n - 1) // 2)
            return vocabulary * d + layers * block + 2 * d, unread

        def transformer(vocabulary, d, f, layers):
            return vocabulary * d + layers * (4 * d * d + 4 * d + 2 * d * f + f + d + 4 * d) + 2 * d, 0

        for size in family.SIZES:
            stored, read = [], []
            for name in family.FAMILIES:
                parser = configparser.ConfigParser(inline_comment_prefixes="#")
                parser.read(family.config_of(name, size))
                self.assertEqual(set(parser.sections()), {"model", "optim"})
                self.assertEqual(set(parser["optim"]), {"lr"})
                d, f, layers = (int(parser["model"][key]) for key in ("d_model", "d_ffn", "layers"))
                if parser["model"]["kind"] == "gmlp":
                    count, unread = gmlp(4000, 256, d, f, int(parser["model"].get("tiny_attention", 0)), layers)
                else:
                    count, unread = transformer(4000, d, f, layers)
                stored.append(count)
                read.append(count - unread)
            for counts in (stored, read):
                self.assertLess(max(counts) / min(counts), 1.02, (size, counts))


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
