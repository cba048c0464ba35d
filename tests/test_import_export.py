#!/usr/bin/env python3
"""test_import_export.py SLUICE: weights go to other programs' layouts and back without a changed bit, what does not fit is
refused by name, and an imported checkpoint serves wherever one does. Names and shapes of the layouts are written down here."""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/parity"))

import parameter_shapes  # noqa: E402
from program import VOCABULARY, draw, make_corpus  # noqa: E402

SLUICE = sys.argv[1]
UNTIED = {"tied": "false", "head_bias": "true"}
LABML = {**UNTIED, "positions": "sinusoidal", "scale_embedding": "true"}
GPT2 = {"kind": "transformer", "heads": "4", "positions": "learned", "gelu": "tanh"}
AMLP = {**UNTIED, "tiny_attention": "6", "tiny_attention_qkv_bias": "false"}
HEADS = {**AMLP, "spatial_heads": "4", "token_shift": "1", "gate_activation": "tanh"}
V, D, F, N = VOCABULARY, 24, 40, 9  # parameter_shapes.DEFAULTS


def labml_shapes():
    names = {"src_embed.linear.weight": (V, D), "src_embed.positional_encodings": (5000, 1, D), "encoder.norm.weight": (D,),
             "encoder.norm.bias": (D,), "generator.projection.weight": (V, D), "generator.projection.bias": (V,)}
    block = {"norm.weight": (D,), "norm.bias": (D,), "proj1.weight": (F, D), "proj1.bias": (F,), "sgu.norm.weight": (F // 2,),
             "sgu.norm.bias": (F // 2,), "sgu.weight": (N, N), "sgu.bias": (N,), "proj2.weight": (D, F // 2), "proj2.bias": (D,)}
    return names | {f"encoder.layers.{i}.{name}": shape for i in range(2) for name, shape in block.items()}


def gmlp_shapes(heads, attention, conv1d):
    names = {"to_embed.weight": (V, D), "to_logits.0.weight": (D,), "to_logits.0.bias": (D,), "to_logits.1.weight": (V, D),
             "to_logits.1.bias": (V,)}
    block = {"proj_in.0.weight": (F, D), "proj_in.0.bias": (F,), "sgu.norm.weight": (F // 2,), "sgu.norm.bias": (F // 2,),
             "proj_out.weight": (D, F // 2), "proj_out.bias": (D,)}
    block |= {"sgu.proj.weight": (N, N, 1), "sgu.proj.bias": (N,)} if conv1d else {"sgu.weight": (heads, N, N), "sgu.bias": (heads, N)}
    if attention:
        block |= {"attn.to_qkv.weight": (3 * attention, D), "attn.to_out.weight": (F // 2, attention), "attn.to_out.bias": (F // 2,)}
    for i in range(2):
        names |= {f"layers.{i}.fn.norm.weight": (D,), f"layers.{i}.fn.norm.bias": (D,)}
        names |= {f"layers.{i}.{'fn.fn' if conv1d else 'fn.fn.fn'}.{name}": shape for name, shape in block.items()}
    return names


def gpt2_shapes(tied):
    names = {"transformer.wte.weight": (V, D), "transformer.wpe.weight": (N, D), "transformer.ln_f.weight": (D,),
             "transformer.ln_f.bias": (D,), **({} if tied else {"lm_head.weight": (V, D)})}
    block = {"ln_1.weight": (D,), "ln_1.bias": (D,), "attn.c_attn.weight": (D, 3 * D), "attn.c_attn.bias": (3 * D,),
             "attn.c_proj.weight": (D, D), "attn.c_proj.bias": (D,), "ln_2.weight": (D,), "ln_2.bias": (D,), "mlp.c_fc.weight": (D, F),
             "mlp.c_fc.bias": (F,), "mlp.c_proj.weight": (F, D), "mlp.c_proj.bias": (D,)}
    return names | {f"transformer.h.{i}.{name}": shape for i in range(2) for name, shape in block.items()}


# name: layout, settings, names and shapes in it, layout by which it is read again
LAYOUTS = {
    "labml": ("labml", LABML, labml_shapes(), "labml"),
    "gmlp": ("g-mlp-pytorch", UNTIED, gmlp_shapes(1, 0, False), None),
    "gmlp_heads": ("g-mlp-pytorch", HEADS, gmlp_shapes(4, 6, False), "g-mlp-pytorch"),
    "gmlp_conv1d": ("g-mlp-pytorch-0.0", AMLP, gmlp_shapes(1, 6, True), "g-mlp-pytorch"),
    "gpt2": ("gpt2", GPT2, gpt2_shapes(True), None),
    "gpt2_untied": ("gpt2", {**GPT2, "tied": "false"}, gpt2_shapes(False), "gpt2"),
}


class ImportExport(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        cls.folder = Path(cls.scratch.name)
        cls.corpus = make_corpus(SLUICE, cls.folder)
        cls.count = 0

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def path(self, name):
        type(self).count += 1
        return self.folder / f"{self.count}-{name}"

    def sluice(self, *words):
        return subprocess.run([SLUICE, *map(str, words)], capture_output=True, text=True, timeout=100)

    def ok(self, *words):
        done = self.sluice(*words)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def refused(self, *words):
        done = self.sluice(*words)
        self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
        return done.stderr

    def model(self, settings):
        file = self.path("model.ini")
        file.write_text(parameter_shapes.ini(settings))
        return file

    def weights(self, settings, seed=1, dtype="<f4"):
        drawn = draw(parameter_shapes.shapes(settings, V), seed)
        return {name: values.astype(dtype) for name, values in drawn.items()}

    def import_words(self, layout, tensors, settings):
        file = self.path("weights.safetensors")
        save_file(tensors, file)
        return ["import", "--from", layout, file, "--model", self.model(settings), "--corpus", self.corpus, "--out", self.path("ckpt")]

    def imported(self, layout, tensors, settings):
        words = self.import_words(layout, tensors, settings)
        self.ok(*words)
        return words[-1]

    def exported(self, checkpoint, layout):
        out = self.path("out.safetensors")
        self.ok("export", "--checkpoint", checkpoint, "--to", layout, "--out", out)
        return out

    def assert_equal(self, one, other):
        self.assertEqual(one.keys(), other.keys())
        for name, values in one.items():
            self.assertEqual(values.dtype, other[name].dtype, name)
            self.assertEqual(values.tobytes(), other[name].tobytes(), name)

    def test_weights_go_out_by_the_layouts_names_and_shapes_and_come_back_bit_for_bit(self):
        for name, (layout, settings, shapes, back) in LAYOUTS.items():
            with self.subTest(name):
                weights = self.weights(settings)
                between = load_file(self.exported(self.imported("sluice", weights, settings), layout))
                self.assertEqual({key: values.shape for key, values in between.items()}, shapes)
                if back:
                    self.assert_equal(load_file(self.exported(self.imported(back, between, settings), "sluice")), weights)

    def test_double_precision_is_kept(self):
        weights = self.weights({}, dtype="<f8")
        self.assert_equal(load_file(self.exported(self.imported("sluice", weights, {}), "sluice")), weights)

    def test_products_of_gpt2_lie_the_other_way_round(self):
        weights = self.weights(GPT2)
        between = load_file(self.exported(self.imported("sluice", weights, GPT2), "gpt2"))
        np.testing.assert_array_equal(between["transformer.h.1.mlp.c_fc.weight"], weights["blocks.1.mlp.expand.weight"].T)
        np.testing.assert_array_equal(between["transformer.wte.weight"], weights["embed.weight"])

    def test_a_file_says_what_it_is(self):
        file = self.exported(self.imported("sluice", self.weights(GPT2), GPT2), "gpt2")
        with safe_open(file, framework="np") as opened:
            metadata = opened.metadata()
        self.assertEqual((metadata["format"], metadata["layout"]), ("pt", "gpt2"))
        self.assertEqual(json.loads(metadata["model"])["heads"], 4)

    def test_gpt2_may_have_masks_a_second_head_half_precision_and_no_prefix(self):
        weights = self.weights(GPT2, dtype="<f2")
        between = load_file(self.exported(self.imported("sluice", weights, GPT2), "gpt2"))
        bare = {name.removeprefix("transformer."): values.astype("<f2") for name, values in between.items()}
        bare |= {f"h.{i}.attn.bias": np.ones((1, 1, N, N), bool) for i in range(2)}
        bare |= {"h.0.attn.masked_bias": np.array(-1e4, "<f4"), "lm_head.weight": bare["wte.weight"]}
        back = load_file(self.exported(self.imported("gpt2", bare, GPT2), "sluice"))
        self.assert_equal(back, {name: values.astype("<f4") for name, values in weights.items()})
        bare["lm_head.weight"] = bare["lm_head.weight"] * 2
        self.assertIn("tensor lm_head.weight: differs from the embedding, but model.tied = true",
                      self.refused(*self.import_words("gpt2", bare, GPT2)))

    def test_all_that_does_not_fit_is_named_at_once(self):
        between = load_file(self.exported(self.imported("sluice", self.weights(GPT2), GPT2), "gpt2"))
        del between["transformer.h.1.ln_2.bias"]
        between["transformer.h.2.ln_1.weight"] = np.ones(D, "<f4")
        between["transformer.h.0.attn.c_attn.weight"] = np.ones((3 * D, D), "<f4")
        between["transformer.h.0.ln_1.bias"] = np.ones(D, "<i8")
        between["ln_f.bias"] = np.ones(D, "<f4")
        words = self.import_words("gpt2", between, GPT2)
        said = self.refused(*words)
        self.assertIn("tensor h.1.ln_2.bias: is missing (blocks.1.mlp.norm.bias of the model, of shape [24])", said)
        self.assertIn("tensor transformer.h.2.ln_1.weight: is not expected", said)
        self.assertIn("tensor transformer.h.0.attn.c_attn.weight: has shape [72, 24], the model needs [24, 72]", said)
        self.assertIn("tensor transformer.h.0.ln_1.bias: is of type Long, not a floating one", said)
        self.assertIn("ln_f.bias: stands twice", said)
        self.assertEqual(said.count("tensor "), 5, said)
        self.assertFalse(words[-1].exists())

    def test_settings_that_a_layout_cannot_express_are_named_at_once(self):
        plain = self.imported("sluice", self.weights({}), {})
        other = {**HEADS, "gate": "additive", "gelu": "tanh", "norm_eps": "1e-6", "gate_norm": "false", "positions": "sinusoidal",
                 "tiny_attention_qkv_bias": "true"}
        strange = self.imported("sluice", self.weights(other), other)
        out = self.path("none.safetensors")
        for checkpoint, layout, expected in (
                (plain, "labml", ["model.tied = true: must be false", "model.head_bias = false: must be true",
                                  "model.positions = none: must be sinusoidal", "model.scale_embedding = false: must be true"]),
                (plain, "gpt2", ["model.kind = gmlp: must be transformer"]),
                (strange, "labml", ["model.gate = additive: must be split", "model.gelu = tanh: must be exact",
                                    "model.norm_eps = 1e-06: must be 1e-05", "model.gate_norm = false: must be true",
                                    "model.spatial_heads = 4: must be 1", "model.gate_activation = tanh: must be none",
                                    "model.tiny_attention = 6: must be 0", "model.token_shift = 1: must be 0",
                                    "model.scale_embedding = false: must be true"]),
                (strange, "g-mlp-pytorch", ["model.gate = additive", "model.gelu = tanh", "model.norm_eps", "model.gate_norm",
                                            "model.positions = sinusoidal: must be none",
                                            "model.tiny_attention_qkv_bias = true: must be false"]),
                (strange, "g-mlp-pytorch-0.0", ["model.spatial_heads = 4: must be 1", "model.token_shift = 1: must be 0"])):
            said = self.refused("export", "--checkpoint", checkpoint, "--to", layout, "--out", out)
            for text in expected:
                self.assertIn(text, said)
                self.assertIn(f"in the layout {layout}", said)
        self.assertFalse(out.exists())
        toeplitz = {**UNTIED, "spatial": "toeplitz"}
        self.assertIn("model.spatial = toeplitz: must be free in the layout g-mlp-pytorch",
                      self.refused(*self.import_words("g-mlp-pytorch", {"to_embed.weight": np.ones((V, D), "<f4")}, toeplitz)))
        both_ways = {**GPT2, "causal": "false", "bias": "false", "norm": "rms", "mlp": "swiglu", "gelu": "exact", "head_bias": "true",
                     "scale_embedding": "true", "positions": "none"}
        said = self.refused(*self.import_words("gpt2", {"wte.weight": np.ones((V, D), "<f4")}, both_ways))
        for text in ("causal = false: must be true", "bias = false: must be true", "norm = rms: must be layer", "mlp = swiglu: must be gelu",
                     "head_bias = true: must be false", "scale_embedding = true: must be false", "positions = none: must be learned"):
            self.assertIn("model." + text, said)

    def test_circulant_weights_are_refused_by_name(self):
        tensors = load_file(self.exported(self.imported("sluice", self.weights(UNTIED), UNTIED), "g-mlp-pytorch"))
        tensors["layers.0.fn.fn.fn.sgu.weight"] = np.ones((1, N), "<f4")
        tensors["layers.0.fn.fn.fn.sgu.circulant_pos_x"] = np.ones((1, N), "<f4")
        said = self.refused(*self.import_words("g-mlp-pytorch", tensors, UNTIED))
        self.assertIn("layers.0.fn.fn.fn.sgu.weight: has shape [1, 9], the model needs [1, 9, 9]", said)
        self.assertIn("layers.0.fn.fn.fn.sgu.circulant_pos_x: is not expected", said)

    def test_labmls_table_of_positions_may_be_left_out_but_not_be_another(self):
        weights = self.weights(LABML)
        tensors = load_file(self.exported(self.imported("sluice", weights, LABML), "labml"))
        table = tensors.pop("src_embed.positional_encodings")
        self.assert_equal(load_file(self.exported(self.imported("labml", tensors, LABML), "sluice")), weights)
        for wrong, text in ((table[:, :, ::-1].copy(), "is not the table of sinusoids"), (table[:5], "has shape [5, 1, 24]")):
            said = self.refused(*self.import_words("labml", {**tensors, "src_embed.positional_encodings": wrong}, LABML))
            self.assertIn("src_embed.positional_encodings: " + text, said)

    def test_flags_of_import_and_export_are_checked(self):
        words = self.import_words("sluice", self.weights({}), {})
        file, model, out = words[3], words[5], words[9]
        base = ["import", "--from", "sluice", file, "--model", model, "--out", out]
        self.assertIn("--corpus: the model's tokenizer", self.refused(*base))
        self.assertIn("--corpus: the model's tokenizer", self.refused(*words, "--tokenizer", "external:x"))
        self.assertIn("--eos: is that of --corpus", self.refused(*words, "--eos", "3"))
        self.assertIn("--tokenizer = bytes: must be external:NAME", self.refused(*base, "--tokenizer", "bytes"))
        self.assertIn("--eos = 37: must be a whole number, 0 ... 36", self.refused(*base, "--tokenizer", "external:x", "--eos", "37"))
        self.assertIn("embed.weight: has shape [37, 24], the model needs [40, 24]",
                      self.refused(*base, "--tokenizer", "external:x", "--vocabulary", "40"))
        self.assertIn("no embedding of the layout gpt2",
                      self.refused("import", "--from", "gpt2", file, "--model", self.model(GPT2), "--out", out, "--tokenizer", "external:x"))
        self.assertIn("--from = hf: must be sluice or labml or g-mlp-pytorch or g-mlp-pytorch-0.0 or gpt2",
                      self.refused("import", "--from", "hf", *base[3:]))
        self.assertIn("cannot be read", self.refused("import", "--from", "sluice", file, "--model", out / "x", "--corpus", self.corpus,
                                                     "--out", out))
        self.assertIn("cannot be opened", self.refused("import", "--from", "sluice", out / "x", "--model", model, "--corpus", self.corpus,
                                                       "--out", out))
        self.assertFalse(out.exists())
        self.ok(*words)
        self.assertIn("is there already", self.refused(*words))
        self.assertIn("--out " + str(out / "no/x"), self.refused("export", "--checkpoint", out, "--to", "sluice", "--out", out / "no/x"))

    def test_an_imported_checkpoint_serves_as_one(self):
        words = self.import_words("sluice", self.weights({}), {})
        words[6:8] = ["--tokenizer", "external:pattern"]
        said = self.ok(*words)
        checkpoint = words[-1]
        self.assertIn("parameters from", said)
        self.assertIn("all is well", self.ok("verify", checkpoint))
        summary = json.loads(self.ok("inspect", checkpoint, "--json"))
        self.assertEqual((summary["step"], summary["model"]["vocabulary_size"]), (0, V))
        result = json.loads(self.ok("eval", "--checkpoint", checkpoint, "--corpus", self.corpus, "--json"))
        self.assertEqual(result["tokens"], 399)
        self.assertIn("not part of sluice", self.refused("generate", "--checkpoint", checkpoint, "--prompt", "a", "--tokens", "3"))
        # With a tokenizer of ours it writes.
        settings = {"seq_len": "9"}
        text = ROOT / "tests/fixtures/v1/corpus-chars"
        size = json.loads((text / "tokenizer.json").read_text())["vocabulary_size"]
        words = self.import_words("sluice", draw(parameter_shapes.shapes(settings, size), 1), settings)
        words[7] = text
        self.ok(*words)
        self.assertTrue(self.ok("generate", "--checkpoint", words[-1], "--prompt", "the ", "--tokens", "20").startswith("the "))

    def train_words(self, checkpoint, settings, run):
        config = self.model(settings)
        return ["train", "--config", config, f"--data.corpus={self.corpus}", f"--run.dir={run}", f"--train.init_from={checkpoint}",
                "--train.steps=1", "--train.global_batch=4", "--train.micro_batch=4", "--eval.every=0", "--train.threads=1",
                "--train.device=cpu", "--optim.lr=1e-30", "--optim.warmup_steps=0", "--optim.weight_decay=0"]

    def test_a_run_starts_from_given_weights(self):
        weights = self.weights({})
        checkpoint, run = self.imported("sluice", weights, {}), self.path("run")
        self.ok(*self.train_words(checkpoint, {}, run))
        self.assert_equal(load_file(self.exported(run, "sluice")), weights)  # no step of that size changes a weight
        again = self.train_words(self.path("elsewhere"), {}, run)
        self.assertIn("train.init_from", self.refused(*again))
        said = self.refused(*self.train_words(checkpoint, {"causal": "true", "gelu": "tanh", "scale_embedding": "true"}, self.path("run")))
        self.assertIn("its model has model.gelu = exact, the run tanh", said)
        self.assertIn("its model has model.scale_embedding = false, the run true", said)
        self.assertIn("neither a checkpoint", self.refused(*self.train_words(self.folder, {}, self.path("run"))))
        words = self.import_words("sluice", weights, {})
        words[6:8] = ["--tokenizer", "external:other"]
        self.ok(*words)
        self.assertIn("a model can only read the ids that it learned with", self.refused(*self.train_words(words[-1], {}, self.path("run"))))

    def test_eval_writes_one_batch(self):
        checkpoint = self.imported("sluice", self.weights({}), {})
        words = ["eval", "--checkpoint", checkpoint, "--corpus", self.corpus]
        logits, gradients = self.path("logits"), self.path("gradients")
        ids = np.array(json.loads(self.ok("inspect", self.corpus, "--split", "valid", "--tokens", "9:28", "--json"))["ids"])
        for precision, dtype in (("fp32", "float32"), ("fp64", "float64")):
            result = json.loads(self.ok(*words, "--tokens", "9:27", "--logits", logits, "--gradients", gradients, "--precision", precision,
                                        "--device", "cpu", "--json"))
            written = load_file(logits)
            self.assertEqual((written["logits"].shape, written["logits"].dtype), ((2, N, V), dtype))
            np.testing.assert_array_equal(written["tokens"], ids[:-1].reshape(2, N))
            np.testing.assert_array_equal(written["targets"], ids[1:].reshape(2, N))
            z = written["logits"].astype("float64")
            p = z - np.log(np.exp(z - z.max(-1, keepdims=True)).sum(-1, keepdims=True)) - z.max(-1, keepdims=True)
            mean = -np.take_along_axis(p, written["targets"][..., None], -1).mean()
            self.assertAlmostEqual(written["loss"][0], mean, places=5)
            self.assertAlmostEqual(result["loss"], mean, places=5)
            self.assertEqual(result["tokens"], 18)
            of_loss = load_file(gradients)
            self.assertEqual(of_loss.keys(), parameter_shapes.shapes({}, V).keys() | {"tokens", "targets", "loss"})
            self.assertEqual(of_loss["embed.weight"].dtype, dtype)
            self.assertGreater(np.abs(of_loss["blocks.0.sgu.weight"]).max(), 0)
        # The split's last token has no target.
        self.ok(*words, "--tokens", "395:400", "--logits", logits)
        np.testing.assert_array_equal(load_file(logits)["targets"][0, -1:], [-100])
        self.assertEqual(load_file(logits)["logits"].shape, (1, 5, V))

    def test_eval_refuses_batches_that_are_none(self):
        checkpoint = self.imported("sluice", self.weights({}), {})
        words, out = ["eval", "--checkpoint", checkpoint, "--corpus", self.corpus], self.path("logits")
        for tokens, text in (("0:10", "are 10, must be at most n = 9 (one row), or a multiple of it"), ("5:5", "at least one"),
                             ("395:401", "of the 400 tokens of split valid"), ("399:400", "none of them is predicted"),
                             ("9", "--tokens = 9: must be A:B")):
            self.assertIn(text, self.refused(*words, "--tokens", tokens, "--logits", out))
        self.assertIn("--logits: is of one given batch", self.refused(*words, "--logits", out))
        self.assertIn("--tokens: gives the batch", self.refused(*words, "--tokens", "0:9"))
        self.assertIn("--logits " + str(out / "no"), self.refused(*words, "--tokens", "0:9", "--logits", out / "no"))
        self.assertFalse(out.exists())

    def test_eval_hides_what_a_masked_model_predicts(self):
        text, corpus = self.path("text"), self.path("masked")
        text.write_text("to be, or not to be: that is the question. " * 200)
        self.ok("prepare", "--input", text, "--tokenizer", "chars", "--mask-token", "--out", corpus)
        mask = json.loads((corpus / "tokenizer.json").read_text())["mask_token"]
        settings = {"causal": "false"}
        words = self.import_words("sluice", draw(parameter_shapes.shapes(settings, mask + 1), 1), settings)
        words[7] = corpus
        self.ok(*words)
        out = self.path("logits")
        self.ok("eval", "--checkpoint", words[-1], "--corpus", corpus, "--tokens", "0:90", "--logits", out)
        written = load_file(out)
        hidden = written["targets"] >= 0
        np.testing.assert_array_equal(hidden.sum(1), np.ones(10))  # 15 % of nine
        np.testing.assert_array_equal(written["tokens"] == mask, hidden & (written["tokens"] == mask))
        self.assertGreater((written["tokens"] == mask).sum(), 0)
        # Without a mask token every position predicts itself.
        checkpoint = self.imported("sluice", self.weights(settings), settings)
        self.ok("eval", "--checkpoint", checkpoint, "--corpus", self.corpus, "--tokens", "0:9", "--logits", out)
        written = load_file(out)
        np.testing.assert_array_equal(written["tokens"], written["targets"])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[2:])
