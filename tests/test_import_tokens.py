#!/usr/bin/env python3
"""test_import_tokens.py SLUICE: files of ids as other programs write them, made here with numpy, become corpora of the same ids
and documents, which h5py reads; models train on them and are evaluated; what is wrong is refused by file and place."""

import json
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import h5py
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
SLUICE = sys.argv[1]
EOS = 99


def sluice(*words):
    return subprocess.run([SLUICE, *map(str, words)], capture_output=True, text=True, timeout=100)


def documents(seed, count=40, longest=60, vocabulary=99):
    random = np.random.default_rng(seed)
    return [random.integers(0, vocabulary, random.integers(1, longest)) for _ in range(count)]


def ended(parts):
    """All documents in one array, EOS after each; and where each begins."""
    starts = np.cumsum([0] + [len(part) + 1 for part in parts[:-1]])
    return np.concatenate([np.append(part, EOS) for part in parts]), starts


def write_llmc(path, ids, magic=20240520, version=1, said=None):
    header = np.zeros(256, "<i4")
    header[:3] = magic, version, len(ids) if said is None else said
    path.write_bytes(header.tobytes() + ids.astype("<u2").tobytes())


def write_megatron(name, sequences, starts, dtype, modes=False, order=None):
    """`sequences` into NAME.bin in the order given (of indices), and an index in their own order."""
    code = {"|u1": 1, "|i1": 2, "<i2": 3, "<i4": 4, "<i8": 5, "<u2": 8}[np.dtype(dtype).str]
    order = range(len(sequences)) if order is None else order
    pointers, data = [0] * len(sequences), b""
    for index in order:
        pointers[index] = len(data)
        data += sequences[index].astype(dtype).tobytes()
    name.with_suffix(".bin").write_bytes(data)
    index = b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, code, len(sequences), len(starts) + 1)
    index += struct.pack(f"<{len(sequences)}i", *map(len, sequences))
    index += struct.pack(f"<{len(sequences)}q", *pointers)
    index += struct.pack(f"<{len(starts) + 1}q", *starts, len(sequences))
    name.with_suffix(".idx").write_bytes(index + (bytes(len(sequences)) if modes else b""))


def read_split(corpus, split):
    """(ids, starts of documents) by h5py."""
    ids, starts, before = [], [], 0
    for shard in json.loads((corpus / "corpus.json").read_text())["splits"][split]["shards"]:
        with h5py.File(corpus / shard["file"]) as file:
            ids.append(file["tokens"][:])
            starts.append(file["documents"][:] + before)
            before += len(ids[-1])
    return np.concatenate(ids), np.concatenate(starts)


class Imports(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = Path(scratch.name)
        self.count = 0

    def prepare(self, *words):
        self.count += 1
        corpus = self.scratch / f"corpus{self.count}"
        done = sluice("prepare", "--tokens", *words, "--out", corpus)
        self.assertEqual(done.returncode, 0, done.stderr)
        if self.count == 1:
            checked = sluice("verify", corpus)
            self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
        return corpus

    def refused(self, *words):
        out = self.scratch / "refused"
        done = sluice("prepare", *words, "--out", out)
        self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
        self.assertFalse(out.exists())
        return done.stderr

    def check(self, corpus, split, ids, starts):
        found, found_starts = read_split(corpus, split)
        np.testing.assert_array_equal(found, ids)
        np.testing.assert_array_equal(found_starts, starts)

    def test_llmc_with_its_own_validation_file(self):
        train, valid = documents(1), documents(2, count=5)
        for name, parts in (("train", train), ("valid", valid)):
            write_llmc(self.scratch / f"{name}.bin", ended(parts)[0])
        corpus = self.prepare("llmc", self.scratch / "train.bin", "--valid", self.scratch / "valid.bin", "--vocab-size", 100,
                              "--eos", EOS, "--tokenizer", "external:gpt2")
        self.check(corpus, "train", *ended(train))
        self.check(corpus, "valid", *ended(valid))
        self.assertEqual(json.loads((corpus / "tokenizer.json").read_text()),
                         {"format": "sluice-tokenizer", "version": 1, "kind": "external", "vocabulary_size": 100,
                          "end_of_document": EOS, "name": "gpt2"})

    def test_a_document_may_go_on_in_the_next_file_and_begin_with_its_mark(self):
        # llm.c's shards put the mark before a document and cut documents anywhere.
        parts = documents(3)
        ids = np.concatenate([np.insert(part, 0, EOS) for part in parts])
        starts = np.cumsum([0] + [len(part) + 1 for part in parts[:-1]])
        starts[1:] += 1  # the mark between two is the first one's last
        write_llmc(self.scratch / "a.bin", ids[:301])
        write_llmc(self.scratch / "b.bin", ids[301:])
        corpus = self.prepare("llmc", self.scratch / "a.bin", self.scratch / "b.bin", "--vocab-size", 100, "--eos", EOS,
                              "--valid-fraction", 0)
        self.check(corpus, "train", ids, starts)

    def test_raw_ids_of_every_type_in_many_blocks_and_shards(self):
        ids = np.random.default_rng(4).integers(0, 100, 700_001)
        for dtype in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"):
            file = self.scratch / f"{dtype}.bin"
            file.write_bytes(ids.astype(np.dtype(dtype).newbyteorder("<")).tobytes())
            corpus = self.prepare("raw", file, "--dtype", dtype, "--vocab-size", 100, "--shard-tokens", 150_000)
            border = int(0.95 * len(ids))
            self.check(corpus, "train", ids[:border], [0])
            self.check(corpus, "valid", ids[border:], [0])

    def test_ids_above_16_bits(self):
        ids = np.random.default_rng(5).integers(0, 151_000, 5000)
        np.save(self.scratch / "ids.npy", ids.astype("<u4"))
        corpus = self.prepare("npy", self.scratch / "ids.npy", "--vocab-size", 151_936, "--valid-fraction", 0)
        self.check(corpus, "train", ids, [0])
        self.assertEqual(json.loads((corpus / "corpus.json").read_text())["dtype"], "uint32")
        self.assertEqual(json.loads((corpus / "corpus.json").read_text())["tokenizer"]["end_of_document"], -1)

    def test_npy_of_every_type_and_version_with_files_as_documents(self):
        one, two = np.arange(50), np.arange(50, 90)
        for number, dtype in enumerate(("|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8")):
            for name, ids in (("one", one), ("two", two)):
                with open(self.scratch / f"{name}.npy", "wb") as file:
                    np.lib.format.write_array(file, ids.astype(dtype), version=(1 + number % 3, 0))
            corpus = self.prepare("npy", self.scratch / "one.npy", self.scratch / "two.npy", "--vocab-size", 100,
                                  "--valid-fraction", 0)
            self.check(corpus, "train", np.arange(90), [0, 50])

    def test_megatron_keeps_documents_of_several_sequences(self):
        for dtype, modes in (("<u2", False), ("<i4", True), ("|u1", False), ("<i8", False)):
            sequences = documents(6, count=30)
            sequences[7] = sequences[7][:0]  # a sequence without ids, where a document begins
            starts = [0, 3, 4, 7, 20]
            name = self.scratch / "data_text_document"
            order = np.random.default_rng(7).permutation(30)
            write_megatron(name, sequences, starts, dtype, modes, order)
            lengths = np.cumsum([0] + [len(one) for one in sequences])
            for path in (name, name.with_suffix(".bin"), name.with_suffix(".idx")):
                corpus = self.prepare("megatron", path, "--vocab-size", 100, "--valid-fraction", 0)
                self.check(corpus, "train", np.concatenate(sequences), lengths[starts])

    def test_megatron_puts_the_mark_only_where_it_is_missing(self):
        a, b, c = np.array([1, 2]), np.array([3, EOS]), np.array([4, 5])
        name = self.scratch / "data"
        write_megatron(name, [a, b, c], [0, 1, 2], "<u2")
        corpus = self.prepare("megatron", name, "--vocab-size", 100, "--eos", EOS, "--valid-fraction", 0)
        self.check(corpus, "train", [1, 2, EOS, 3, EOS, 4, 5], [0, 3, 5])

    def test_a_model_trains_and_is_evaluated_but_writes_no_text(self):
        write_llmc(self.scratch / "ids.bin", np.tile(np.arange(100), 40))
        corpus = self.prepare("llmc", self.scratch / "ids.bin", "--vocab-size", 100, "--tokenizer", "external:count")
        run = self.scratch / "run"
        done = sluice("train", "--config", ROOT / "configs/experiments/tiny.ini", "--model.d_model=32", "--model.d_ffn=64",
                      "--model.seq_len=32", f"--run.dir={run}", f"--data.corpus={corpus}")
        self.assertEqual(done.returncode, 0, done.stderr)
        done = sluice("eval", "--checkpoint", run, "--corpus", corpus, "--json", "--threads", 1)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout)["tokens"], 199)
        self.assertNotIn("bits_per_byte", json.loads(done.stdout))
        for prompt in (["--prompt", "1 2 3"], []):
            done = sluice("generate", "--checkpoint", run, "--tokens", 3, *prompt)
            self.assertEqual(done.returncode, 2, done.stdout)
            self.assertIn("the tokenizer 'count' is not part of sluice", done.stderr)
        done = sluice("train", "--config", ROOT / "configs/experiments/tiny.ini", "--train.objective=mlm", "--model.causal=false",
                      f"--run.dir={run}2", f"--data.corpus={corpus}")
        self.assertEqual(done.returncode, 2, done.stdout)
        self.assertIn("(external) has no mask token to hide tokens behind; corpora of token ids train under causal alone", done.stderr)
        done = sluice("inspect", corpus, "--tokens", "0:5")
        self.assertEqual(done.returncode, 0, done.stderr)
        other = self.prepare("llmc", self.scratch / "ids.bin", "--vocab-size", 100, "--tokenizer", "external:other")
        done = sluice("eval", "--checkpoint", run, "--corpus", other)
        self.assertEqual(done.returncode, 2)
        self.assertIn("of other content", done.stderr)

    def test_corpora_of_every_format_are_mixed_trained_and_each_is_evaluated_by_itself(self):
        """Ids that count up, down, in steps of three and of seven: four corpora of one external tokenizer."""
        steps = {"llmc": 1, "raw": -1, "npy": 3, "megatron": 7}
        ids = {kind: step * np.arange(2000) % 99 for kind, step in steps.items()}
        write_llmc(self.scratch / "llmc.bin", ids["llmc"])
        (self.scratch / "raw.bin").write_bytes(ids["raw"].astype("<i4").tobytes())
        np.save(self.scratch / "npy.npy", ids["npy"].astype("<u2"))
        write_megatron(self.scratch / "megatron", np.split(ids["megatron"], 20), range(20), "<u2")
        files = {"llmc": ["llmc.bin"], "raw": ["raw.bin", "--dtype", "int32"], "npy": ["npy.npy"], "megatron": ["megatron"]}
        corpora = {kind: self.prepare(kind, self.scratch / words[0], *words[1:], "--vocab-size", 100, "--eos", EOS, "--tokenizer",
                                      "external:count", "--valid-fraction", 0.1) for kind, words in files.items()}
        weights = dict(zip(corpora, (0.4, 0.3, 0.2, 0.1)))
        run = self.scratch / "mixed"
        settings = ["--config", ROOT / "configs/experiments/tiny.ini", "--model.d_model=32", "--model.d_ffn=64", "--model.seq_len=32",
                    "--eval.batches=0", f"--run.dir={run}", f"--train.ledger={self.scratch / 'ledger'}"]
        mixture = ",".join(f"{corpus}:{weights[kind]}" for kind, corpus in corpora.items())
        done = sluice("train", *settings, f"--data.corpus={mixture}")
        self.assertEqual(done.returncode, 0, done.stderr)
        for kind, corpus in corpora.items():
            self.assertIn(f"data: {100 * weights[kind]:.2f} % from {corpus}: ", done.stdout)
        counts = [json.loads(line)["corpus_counts"] for line in (self.scratch / "ledger").read_text().splitlines()]
        samples = np.sum(counts)
        for place, (weight, count) in enumerate(zip(weights.values(), np.sum(counts, axis=0))):
            self.assertLess(abs(count - weight * samples), place + 1.001)

        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        valid = [line for line in lines if line["kind"] == "valid"][-1]
        self.assertEqual([one["corpus"] for one in valid["corpora"]], [str(corpus) for corpus in corpora.values()])
        mean = 0.0
        for (kind, corpus), one in zip(corpora.items(), valid["corpora"], strict=True):
            alone = sluice("eval", "--checkpoint", run, "--corpus", corpus, "--json", "--threads", 1)
            self.assertEqual(alone.returncode, 0, alone.stderr)
            self.assertAlmostEqual(json.loads(alone.stdout)["loss"], one["loss"], places=5)
            self.assertEqual(json.loads(alone.stdout)["tokens"], one["eval_tokens"])
            self.assertIn(f"{corpus} {one['loss']:.4f}", done.stdout)
            mean += weights[kind] * one["loss"]
        self.assertAlmostEqual(valid["loss"], mean, places=12)

        inspected = json.loads(sluice("inspect", run, "--json").stdout)
        self.assertEqual(inspected["corpus"], mixture)
        self.assertEqual([one["loss"] for one in inspected["valid_losses"]], [one["loss"] for one in valid["corpora"]])
        self.assertEqual([one["fingerprint"] for one in inspected["newest_good_checkpoint"]["corpora"]],
                         [json.loads((corpus / "corpus.json").read_text())["fingerprint"] for corpus in corpora.values()])
        self.assertEqual(sluice("report", run).returncode, 0)
        page = (run / "report.html").read_text()
        for corpus in corpora.values():
            self.assertIn(f"<td>{corpus}</td>", page)

        done = sluice("train", *settings, "--data.corpus=" + mixture.replace(":0.4", ":0.5"))
        self.assertEqual(done.returncode, 2, done.stdout)
        self.assertIn("is another mixture than the one that", done.stderr)
        done = sluice("eval", "--checkpoint", run, "--corpus", mixture)
        self.assertEqual(done.returncode, 2, done.stdout)
        done = sluice("bench", "step", *settings[:-2], f"--data.corpus={mixture}")
        self.assertEqual(done.returncode, 2, done.stdout)
        self.assertIn("sluice bench step reads one corpus", done.stderr)

    def test_every_id_out_of_range_is_counted_and_the_first_of_each_file_is_named(self):
        ids = np.arange(1000) % 100
        ids[[300, 700]] = 100, 250
        write_llmc(self.scratch / "a.bin", ids)
        write_llmc(self.scratch / "b.bin", np.arange(1000) % 100)
        write_llmc(self.scratch / "c.bin", np.array([1, 2, 60000]))
        said = self.refused("--tokens", "llmc", self.scratch / "a.bin", self.scratch / "b.bin", "--valid", self.scratch / "c.bin",
                            "--vocab-size", 100)
        self.assertIn(f"{self.scratch}/a.bin: token 300, at byte {1024 + 600}, is 100: --vocab-size allows 0 to 99; 2 such ids",
                      said)
        self.assertNotIn("b.bin", said)
        self.assertIn(f"{self.scratch}/c.bin: token 2, at byte {1024 + 4}, is 60000", said)

    def test_negative_and_huge_ids_are_out_of_range(self):
        for dtype, value, told in (("int32", -1, "is -1"), ("uint64", 2**64 - 1, f"is {2**63 - 1}")):
            file = self.scratch / "raw.bin"
            file.write_bytes(np.array([1, value], dtype).tobytes())
            self.assertIn(told, self.refused("--tokens", "raw", file, "--dtype", dtype, "--vocab-size", 100))

    def test_all_faults_of_headers_and_options_come_together(self):
        write_llmc(self.scratch / "magic.bin", np.arange(9), magic=20240521)
        write_llmc(self.scratch / "cut.bin", np.arange(9), said=10)
        (self.scratch / "short.bin").write_bytes(b"abc")
        names = [self.scratch / f"{name}.bin" for name in ("magic", "cut", "short", "missing")]
        said = self.refused("--tokens", "llmc", *names, "--vocab-size", 100, "--eos", 100, "--tokenizer", "bytes")
        for text in ("magic.bin: begins with 20240521, 1", "cut.bin: its header says 10 tokens, 9 lie after it",
                     "short.bin: has 3 bytes, llm.c's header alone has 1024", "missing.bin", "--eos: 100",
                     "--tokenizer: 'bytes'"):
            self.assertIn(text, said)

    def test_npy_that_is_not_a_row_of_little_endian_integers_is_refused(self):
        for name, array, told in (("two", np.zeros((2, 3), "<u2"), "has not one dimension"), ("big", np.zeros(3, ">u2"), "'>u2'"),
                                  ("real", np.zeros(3, "<f4"), "'<f4'")):
            np.save(self.scratch / f"{name}.npy", array)
            self.assertIn(told, self.refused("--tokens", "npy", self.scratch / f"{name}.npy", "--vocab-size", 10))
        np.save(self.scratch / "ids.npy", np.zeros(3, "<u2"))
        self.assertIn("holds uint16, --dtype says int32",
                      self.refused("--tokens", "npy", self.scratch / "ids.npy", "--dtype", "int32", "--vocab-size", 10))

    def test_an_index_that_does_not_fit_its_ids_is_refused(self):
        sequences = [np.arange(4), np.arange(3)]
        name = self.scratch / "data"

        def said(*edits):
            write_megatron(name, sequences, [0, 1], "<u2")
            index = bytearray(name.with_suffix(".idx").read_bytes())
            for at, text in edits:
                index[at:at + len(text)] = text
            name.with_suffix(".idx").write_bytes(index)
            return self.refused("--tokens", "megatron", name, "--vocab-size", 10)

        self.assertIn("does not begin with MMIDIDX", said((0, b"X")))
        self.assertIn("has index version 2", said((9, b"\2")))
        self.assertIn("has type code 7", said((17, b"\7")))
        self.assertIn("do not fit its 3 sequences", said((18, b"\3")))
        self.assertIn("sequence 1 has 9 tokens from byte 8", said((38, struct.pack("<i", 9))))
        self.assertIn("sequence 0 has 4 tokens from byte 99", said((42, struct.pack("<q", 99))))
        self.assertIn("document 0 begins at sequence 1", said((58, struct.pack("<q", 1))))
        self.assertIn("document entry 2 is sequence 0", said((74, struct.pack("<q", 0))))
        name.with_suffix(".bin").unlink()
        self.assertIn("data.bin", self.refused("--tokens", "megatron", name, "--vocab-size", 10))

    def test_flags_of_text_and_of_ids_do_not_mix(self):
        said = self.refused("--tokens", "raw", "x.bin", "--input", "y.txt", "--split", "documents", "--valid", "z.bin",
                            "--valid-fraction", "0.1")
        for text in ("--input:", "--split: is for text", "--vocab-size: must be given", "--valid-fraction: the validation part"):
            self.assertIn(text, said)
        said = self.refused("--input", ROOT / "README.md", "--dtype", "uint16", "--eos", 1)
        self.assertIn("--dtype: is for ids", said)
        self.assertIn("--eos: is for ids", said)
        self.assertIn("the format 'x.bin' is not known", self.refused("--tokens", "x.bin", "--vocab-size", 10))
        self.assertIn("raw ids have no header", self.refused("--tokens", "raw", ROOT / "README.md", "--vocab-size", 10))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
