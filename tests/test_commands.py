#!/usr/bin/env python3
"""test_commands.py SLUICE LAUNCHER...: eval, generate, bench and report as a user calls them, on a run of a few steps."""

import json
import math
import os
import subprocess
import sys
import tempfile
import unittest
import unittest.mock
import xml.etree.ElementTree as xml
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "tests/fixtures/v1/corpus-chars"
OTHER_CORPUS = ROOT / "tests/fixtures/v1/corpus"
SETTINGS = ["--config", str(ROOT / "configs/experiments/tiny.ini"), "--model.seq_len=32", "--model.d_model=32",
            "--model.d_ffn=64"]
SLUICE, *LAUNCHER = sys.argv[1:]


def sluice(*words, ranks=1):
    launcher = [] if ranks == 1 else [*LAUNCHER, "-n", str(ranks)]
    return subprocess.run([*launcher, SLUICE, *map(str, words)], capture_output=True, text=True, timeout=100)


class Commands(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        cls.trained = Path(cls.scratch.name) / "run"
        done = sluice("train", *SETTINGS, f"--run.dir={cls.trained}", f"--data.corpus={CORPUS}")
        if done.returncode != 0:
            raise RuntimeError(f"train exited {done.returncode}: {done.stderr}")

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def ok(self, *words, ranks=1):
        done = sluice(*words, ranks=ranks)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def refused(self, *words, ranks=1):
        done = sluice(*words, ranks=ranks)
        self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
        return done.stderr

    def evaluation(self, *words, ranks=1):
        """Of the trained run. By itself it is asked for often, and made once."""
        if words or ranks > 1:
            return self.evaluate(*words, ranks=ranks)
        if not hasattr(type(self), "plain_evaluation"):
            type(self).plain_evaluation = self.evaluate()
        return dict(self.plain_evaluation)

    def evaluate(self, *words, ranks=1):
        return json.loads(self.ok("eval", "--checkpoint", self.trained, "--corpus", CORPUS, "--json", "--threads", 1, *words,
                                  ranks=ranks))

    def test_a_masked_language_model_is_prepared_for_trained_and_evaluated_but_writes_no_text(self):
        scratch = Path(self.scratch.name)
        text = scratch / "masked.txt"
        text.write_text("to be, or not to be: that is the question. " * 200)
        corpus, run = scratch / "masked-corpus", scratch / "masked-run"
        self.ok("prepare", "--input", text, "--tokenizer", "chars", "--mask-token", "--out", corpus)
        summary = json.loads((corpus / "tokenizer.json").read_text())
        self.assertEqual(summary["mask_token"], summary["vocabulary_size"] - 1)
        settings = [*SETTINGS, "--train.objective=mlm", "--model.causal=false", "--train.mask_rate=0.2", "--eval.batches=0",
                    f"--run.dir={run}"]
        self.assertIn("has no mask token", self.refused("train", *settings, f"--data.corpus={CORPUS}"))
        self.ok("train", *settings, f"--data.corpus={corpus}")
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        valid = [line for line in lines if line["kind"] == "valid"]
        words = ["eval", "--checkpoint", run, "--corpus", corpus, "--json", "--threads", 1]
        result = json.loads(self.ok(*words))
        self.assertAlmostEqual(result["loss"], valid[-1]["loss"], places=5)
        self.assertEqual(result["tokens"], valid[-1]["eval_tokens"])
        self.assertEqual(result["objective"], "mlm")
        self.assertNotIn("bits_per_byte", result)
        self.assertEqual(json.loads(self.ok(*words, ranks=2)), result)
        self.assertIn("no next token", self.refused("generate", "--checkpoint", run, "--tokens", 4))
        self.assertIn("no next token", self.refused("bench", "generate", "--checkpoint", run))

    def test_bench_kernels_says_that_there_is_nothing_to_time_without_a_gpu(self):
        said = self.refused("bench", "kernels", "--train.device=cpu", "--train.precision=tf32", "--model.d_ffn=100")
        self.assertIn("without a GPU there is nothing to time", said)
        self.assertIn("train.precision = tf32", said)
        self.assertIn("half of model.d_ffn is 50", said)

    def test_eval_counts_the_whole_split_in_every_unit(self):
        result = self.evaluation()
        split = json.loads((CORPUS / "corpus.json").read_text())["splits"]["valid"]
        self.assertEqual(result["tokens"], split["tokens"] - 1)
        nats = result["loss"] * result["tokens"]
        self.assertAlmostEqual(result["perplexity"], math.exp(result["loss"]), places=9)
        self.assertAlmostEqual(result["bits_per_byte"], nats / math.log(2) / split["text_bytes"], places=9)
        self.assertAlmostEqual(result["bits_per_character"], nats / math.log(2) / split["text_characters"], places=9)
        self.assertEqual(result["step"], 24)

    def test_eval_is_the_same_for_any_number_of_ranks(self):
        alone = self.evaluation()
        for ranks in (2, 3):
            self.assertEqual(self.evaluation(ranks=ranks), alone)

    def test_eval_and_training_on_a_staged_corpus_give_the_same(self):
        disk = Path(self.scratch.name) / "disk"
        self.assertEqual(self.evaluation("--stage", disk), self.evaluation())
        (copy,) = disk.iterdir()
        self.assertEqual(self.evaluation("--stage", disk, ranks=2), self.evaluation())
        run = Path(self.scratch.name) / "staged-run"
        done = self.ok("train", *SETTINGS, f"--run.dir={run}", f"--data.corpus={CORPUS}", f"--data.stage={disk}")
        self.assertIn("copied on 0 and found on 1 of 1 nodes", done)
        weights = "checkpoints/latest/model.safetensors"
        self.assertEqual((run / weights).read_bytes(), (self.trained / weights).read_bytes())
        self.assertEqual(list(disk.iterdir()), [copy])

    def test_eval_by_position_and_by_ranks_that_share_windows(self):
        alone = self.evaluation()
        file = Path(self.scratch.name) / "positions.csv"
        shared = self.evaluation("--by-position", file, "--sp", 2, "--sp-mode", "ring", ranks=2)
        self.assertAlmostEqual(shared["loss"], alone["loss"], delta=1e-5)
        self.assertEqual(shared["tokens"], alone["tokens"])
        rows = [line.split(",") for line in file.read_text().splitlines()]
        self.assertEqual(rows[0], ["position", "predicted", "loss"])
        self.assertEqual([int(row[0]) for row in rows[1:]], list(range(32)))
        self.assertEqual(sum(int(row[1]) for row in rows[1:]), alone["tokens"])
        self.assertAlmostEqual(sum(int(row[1]) * float(row[2]) for row in rows[1:]) / alone["tokens"], alone["loss"], delta=1e-5)
        self.assertEqual([span["first"] for span in shared["positions"]], [0, 1, 2, 4, 8, 16])
        words = ["eval", "--checkpoint", self.trained, "--corpus", CORPUS]
        self.assertIn("16 to 31", self.ok(*words, "--by-position", file))
        self.assertIn("--sp 2: must divide the ranks, which are 1", self.refused(*words, "--sp", 2))
        self.assertIn("/nowhere/x.csv", self.refused(*words, "--by-position", "/nowhere/x.csv"))

    def test_eval_takes_a_checkpoint_itself_and_another_split(self):
        checkpoint = self.trained / "checkpoints" / "step-000024"
        direct = json.loads(self.ok("eval", "--checkpoint", checkpoint, "--corpus", CORPUS, "--json", "--threads", 1))
        self.assertEqual(direct["loss"], self.evaluation()["loss"])
        self.assertNotEqual(self.evaluation("--split", "train")["loss"], direct["loss"])
        self.assertIn("nats per token", self.ok("eval", "--checkpoint", self.trained, "--corpus", CORPUS))

    def test_eval_refuses_what_does_not_fit(self):
        other = self.refused("eval", "--checkpoint", self.trained, "--corpus", OTHER_CORPUS)
        self.assertIn("chars with 117 ids", other)
        self.assertIn("sentencepiece with 420 ids", other)
        self.assertIn("nowhere", self.refused("eval", "--checkpoint", self.trained, "--corpus", CORPUS, "--split", "nowhere"))
        self.assertIn("nowhere", self.refused("eval", "--checkpoint", "/nowhere", "--corpus", CORPUS))
        self.assertIn("--corpus", self.refused("eval", "--checkpoint", self.trained))
        mixture = self.refused("eval", "--checkpoint", self.trained, "--corpus", f"{CORPUS}:0.7,{OTHER_CORPUS}:0.3")
        self.assertIn("is a mixture of 2 corpora, of which training alone reads several: name one of them", mixture)
        self.refused("eval", "--checkpoint", self.trained, "--corpus", OTHER_CORPUS, ranks=2)

    def generated(self, *words):
        return self.ok("generate", "--checkpoint", self.trained, "--prompt", "the ", "--tokens", 80, "--threads", 1, *words)

    def test_generate_goes_on_from_the_prompt_by_seed(self):
        text = self.generated("--seed", 1)
        self.assertTrue(text.startswith("the "))
        self.assertGreater(len(text), 40)
        self.assertEqual(self.generated("--seed", 1), text)
        self.assertNotEqual(self.generated("--seed", 2), text)

    def test_generate_greedily_takes_no_seed_into_account(self):
        greedy = self.generated("--greedy", "--seed", 1)
        self.assertEqual(self.generated("--greedy", "--seed", 2), greedy)
        self.assertEqual(self.generated("--temperature", 0), greedy)
        self.assertEqual(self.generated("--top-k", 1), greedy)
        self.assertEqual(self.generated("--top-p", 1e-9), greedy)

    def test_generate_starts_a_document_without_a_prompt(self):
        self.assertGreater(len(self.ok("generate", "--checkpoint", self.trained, "--tokens", 40)), 10)

    def test_generate_refuses_bad_flags_by_name(self):
        base = ["generate", "--checkpoint", self.trained, "--prompt", "a", "--tokens", 4]
        for flag, value in (("--temperature", "-1"), ("--top-p", "0"), ("--top-k", "-3"), ("--slide", "33"), ("--slide", "0")):
            self.assertIn(flag, self.refused(*base, flag, value))
        self.assertIn("U+1F600", self.refused("generate", "--checkpoint", self.trained, "--prompt", "\U0001F600", "--tokens", 4))

    def test_bench_step_measures_every_phase_with_and_without_a_corpus(self):
        for words in ([], [f"--data.corpus={CORPUS}"]):
            result = json.loads(self.ok("bench", "step", *SETTINGS, *words, "--steps", 5, "--warmup", 1, "--json"))
            self.assertEqual(result["tokens_per_step"], 8 * 32)
            self.assertEqual(result["steps"], 5)
            self.assertEqual(list(result["phases_s"]),
                             ["data_wait", "forward", "backward", "comm_exposed", "optimizer", "other"])
            self.assertAlmostEqual(result["tokens_per_s"], 8 * 32 / result["step_s"]["median"], places=3)
            self.assertLessEqual(result["step_s"]["min"], result["step_s"]["median"])
        self.assertIn("tokens/s", self.ok("bench", "step", *SETTINGS, "--steps", 2))

    def test_bench_step_runs_on_ranks(self):
        result = json.loads(self.ok("bench", "step", *SETTINGS, "--steps", 3, "--json", ranks=2))
        self.assertEqual(result["ranks"], 2)
        self.assertEqual(result["tokens_per_step"], 8 * 32)
        for name, ranks in result["phases_by_rank_s"].items():
            self.assertEqual(len(ranks), 2)
            self.assertAlmostEqual(sum(ranks) / 2, result["phases_s"][name], places=9)

    def test_bench_step_says_what_exchanges_between_ranks_cost(self):
        words = ["bench", "step", *SETTINGS, "--train.device=cpu", "--parallel.sp=2", "--parallel.sp_mode=ring", "--steps", 2, "--json"]
        result = json.loads(self.ok(*words, ranks=2))
        self.assertEqual((result["sp"], result["sp_mode"], result["null_exchange"]), (2, "ring", False))
        exchange = result["exchange"]
        self.assertAlmostEqual(exchange["efficiency"], exchange["null_step_s"] / result["step_s"]["median"], places=9)
        self.assertAlmostEqual(exchange["exposed_share"], max(0, 1 - exchange["efficiency"]), places=9)
        self.assertNotIn("exchange", json.loads(self.ok(*words, "--real-exchange", ranks=2)))
        alone = json.loads(self.ok(*words, "--null-exchange", ranks=2))
        self.assertTrue(alone["null_exchange"])
        self.assertNotIn("exchange", alone)

    def test_bench_exchange_measures_what_shared_sequences_send(self):
        result = json.loads(self.ok("bench", "exchange", "--device", "cpu", "--sizes", "4K", "64K", "--batches", 2, "--json", ranks=2))
        self.assertEqual([(row["collective"], row["bytes"]) for row in result["rows"]],
                         [(name, size) for name in ("all_gather", "reduce_scatter", "all_to_all", "neighbour") for size in (4096, 65536)])
        for row in result["rows"]:
            share = 1 if row["collective"] == "neighbour" else 0.5
            self.assertAlmostEqual(row["busbw_gb_s"], share * row["algbw_gb_s"], places=9)
        self.assertIn("mpirun", self.refused("bench", "exchange"))

    def test_bench_step_says_what_the_device_gave_and_took(self):
        trace = Path(self.scratch.name) / "step.json"
        result = json.loads(self.ok("bench", "step", *SETTINGS, "--train.device=cpu", "--steps", 5, "--warmup", 1, "--profile", trace,
                                    "--json"))
        self.assertEqual(result["device"], "cpu")
        self.assertAlmostEqual(result["mfu"], result["tflops"] / result["peak_tflops"], places=12)
        self.assertGreater(result["hfu"], result["mfu"])
        self.assertGreater(result["memory"]["peak_gib"], 0)
        self.assertGreater(result["start_to_first_step_s"], 0)
        self.assertIsNone(result["power_w"])
        names = [event.get("name") for event in json.loads(trace.read_text())["traceEvents"]]
        for range_name in ("step", "data", "forward", "backward", "all_reduce", "optimizer"):
            self.assertIn(range_name, names)

    def test_train_writes_a_profile(self):
        trace = Path(self.scratch.name) / "train.json"
        run = Path(self.scratch.name) / "profiled"
        self.ok("train", *SETTINGS, f"--run.dir={run}", f"--data.corpus={CORPUS}", "--profile", trace)
        names = [event.get("name") for event in json.loads(trace.read_text())["traceEvents"]]
        self.assertEqual(names.count("optimizer"), 3)
        self.assertIn("missing", self.refused("train", *SETTINGS, f"--run.dir={run}2", f"--data.corpus={CORPUS}", "--profile",
                                              run / "missing" / "trace.json"))

    def test_bench_peak_measures_products_and_copies(self):
        result = json.loads(self.ok("bench", "peak", "--device", "cpu", "--json"))
        self.assertEqual(result["device"], "cpu")
        self.assertGreater(result["fp32"]["tflops"], 0)
        self.assertLessEqual(result["fp32"]["tflops"], result["fp32"]["best_tflops"])
        self.assertGreater(result["copy_gb_per_s"], 0)
        self.assertIn("TFLOP/s", self.ok("bench", "peak", "--device", "cpu"))
        self.assertIn("without mpirun", self.refused("bench", "peak", ranks=2))

    def test_bench_loader_says_what_each_rank_gets(self):
        words = ["bench", "loader", "--corpus", CORPUS, "--seq-len", 32, "--micro-batch", 4, "--seconds", "0.05"]
        for ranks in (1, 2):
            result = json.loads(self.ok(*words, "--json", ranks=ranks))
            self.assertEqual(len(result["ranks"]), ranks)
            for rank in result["ranks"]:
                self.assertGreater(rank["tokens_per_s"], 0)
                self.assertTrue(0 <= rank["waited_share"] <= 1)
        self.assertIn("--seq-len", self.refused("bench", "loader", "--corpus", CORPUS, "--seq-len", 100000))

    def test_bench_generate_stands_beside_a_full_forward(self):
        for words in (["--checkpoint", self.trained], SETTINGS):
            result = json.loads(self.ok("bench", "generate", *words, "--json"))
            self.assertEqual(result["seq_len"], 32)
            for key in ("incremental_tokens_per_s", "full_tokens_per_s", "sliding_tokens_per_s"):
                self.assertGreater(result[key], 0)

    def test_bench_checkpoint_says_what_training_waits_for(self):
        for ranks, zero in ((1, 0), (2, 1)):
            result = json.loads(self.ok("bench", "checkpoint", *SETTINGS, "--device", "cpu", f"--parallel.zero={zero}", "--repeats", 2,
                                        "--dir", self.scratch.name, "--json", ranks=ranks))
            self.assertEqual((result["ranks"], result["zero"], result["repeats"], result["device"]), (ranks, zero, 2, "cpu"))
            self.assertGreater(result["bytes"], 3 * 4 * result["parameters"])
            self.assertLess(result["bytes"], 3 * 4 * result["parameters"] + 20000)
            for key in ("stall_s", "write_s", "verify_s", "load_s", "write_bytes_per_s"):
                self.assertGreater(result[key], 0, key)
            self.assertGreaterEqual(result["stall_max_s"], result["stall_s"])
            self.assertEqual([path.name for path in Path(self.scratch.name).iterdir() if path.name.startswith("sluice-bench")], [])
        self.assertIn("GB/s", self.ok("bench", "checkpoint", *SETTINGS, "--device", "cpu", "--repeats", 1))

    def test_submit_writes_into_the_run_directory_and_calls_sbatch_without_a_shell(self):
        scratch = Path(self.scratch.name) / "cluster"
        (scratch / "bin").mkdir(parents=True)
        sbatch = scratch / "bin" / "sbatch"
        sbatch.write_text(f'#!/bin/sh\nprintf "%s|" "$@" >>"{scratch}/calls"; echo >>"{scratch}/calls"\n'
                          f'env | grep -E "^(OMPI_|PMIX_)" | grep -v ALLOW_RUN_AS_ROOT >>"{scratch}/launcher"; echo "7;name"\n')
        sbatch.chmod(0o755)
        site, run = scratch / "site.ini", scratch / "my run"
        site.write_text("[limits]\narray = 3\nrunning = 2\n[launch]\nranks_per_node = 2\n")
        words = ["submit", ROOT / "configs/experiments/tiny.ini", "--cluster", site, f"--run.dir={run}", f"--data.corpus={CORPUS}"]
        with unittest.mock.patch.dict(os.environ, PATH=f"{scratch}/bin:{os.environ['PATH']}"):
            self.assertIn("#SBATCH --ntasks=2\n", self.ok(*words, "--ranks", 2, "--dry-run"))
            self.assertFalse(run.exists() or (scratch / "calls").exists())
            self.assertIn("submitted job 7:", self.ok(*words, "--ranks", 2))
            self.assertEqual(sorted(path.name for path in run.iterdir()), ["submit.ini", "submit.sbatch"])
            self.assertEqual((scratch / "calls").read_text(), f"--parsable|{run}/submit.sbatch|\n")
            self.assertEqual((scratch / "launcher").read_text(), "", "what MPI added to the environment went along")
            self.ok("train", "--config", run / "submit.ini", "--train.steps=4")
            sweep = ["--run.dir=" + str(scratch / "sweep"), "--array", "run.seed=5,6", "optim.lr=1e-3,2e-3"]
            self.ok(*words[:4], f"--data.corpus={CORPUS}", *sweep)
            script = scratch / "sweep" / "submit.sbatch"
            self.assertEqual((scratch / "calls").read_text().splitlines()[1:],
                             [f"--parsable|--array=0-2%2|{script}|0|", f"--dependency=afterany:7|--parsable|--array=0-0%2|{script}|3|"])
            last = (scratch / "sweep" / "3" / "submit.ini").read_text()
            self.assertIn(f"dir = {scratch}/sweep/3\n", last)
            self.assertRegex(last, r"(?s)seed = 6\n.*lr = 0.002\n")
            sbatch.write_text("#!/bin/sh\necho no such account >&2; exit 1\n")
            failed = sluice(*words)
            self.assertEqual(failed.returncode, 1)
            self.assertIn("no such account", failed.stderr)
            self.assertIn("sbatch ended with exit code 1", failed.stderr)
        mixed = sluice(*words[:4], f"--run.dir={run}", f"--data.corpus={CORPUS}:3,no/such:1", "--dry-run")
        self.assertEqual((mixed.returncode, mixed.stderr), (0, "sluice: data.corpus: there is no corpus in no/such as seen from here\n"))
        faults = self.refused(*words, "--ranks", 9, "--run.new", "--time", "25:00:00", "--optim.lrr=1", "--dry-run")
        self.assertIn("did you mean optim.lr?", faults)
        self.assertIn("--time = 25:00:00: must be at most limits.time = 24:00:00", faults)
        self.assertIn("--ranks = 9", faults)
        faults = self.refused(*words, "--ranks", 10, "--run.new=true", "--dry-run")
        self.assertIn("run.new = true", faults)
        self.assertIn("--ranks = 10: must be at most train.global_batch = 8", faults)
        self.assertIn("exists and is not a run",
                      self.refused(*words[:4], f"--run.dir={ROOT}/tests", f"--data.corpus={CORPUS}", "--dry-run"))

    def test_bench_names_what_it_can_measure(self):
        self.assertIn("step, loader, generate", self.refused("bench", "everything"))
        self.assertIn("step, loader, generate", self.refused("bench"))

    def test_report_is_one_well_formed_page_with_the_evaluation_and_the_sample(self):
        (self.trained / "eval.json").write_text(json.dumps(self.evaluation()))
        (self.trained / "sample.txt").write_text(self.generated())
        self.ok("report", self.trained)
        page = (self.trained / "report.html").read_text()
        xml.fromstring(page.split("\n", 1)[1])
        for title in ("Loss", "Speed", "Where the time went", "Sample", "Evaluation", "Settings", "Build"):
            self.assertIn(f"<h2>{title}</h2>", page)
        out = Path(self.scratch.name) / "elsewhere.html"
        self.ok("report", self.trained, "--out", out)
        self.assertEqual(out.read_text(), page)
        self.assertIn("no metrics.jsonl", self.refused("report", CORPUS))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
