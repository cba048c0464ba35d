"""Reads the first version's corpus with h5py and h5dump alone: the format is HDF5's, not only ours."""
import json
import pathlib
import shutil
import subprocess
import sys
import unittest

try:
    import h5py
except ImportError:
    h5py = None

FIXTURES = pathlib.Path(__file__).resolve().parents[2] / "fixtures" / "v1"
CORPUS = FIXTURES / "corpus-chars"


def shards():
    corpus = json.loads((CORPUS / "corpus.json").read_text(encoding="utf-8"))
    return [shard for split in ("train", "valid") for shard in corpus["splits"][split]["shards"]]


class OtherReaders(unittest.TestCase):
    @unittest.skipIf(h5py is None, "h5py is not installed")
    def test_h5py_gives_the_text(self):
        tokenizer = json.loads((CORPUS / "tokenizer.json").read_text(encoding="utf-8"))
        text = ""
        starts = 0
        for shard in shards():
            with h5py.File(CORPUS / shard["file"], "r") as file:
                self.assertEqual(file.attrs["format"], b"sluice-shard")
                self.assertEqual(file.attrs["version"], 1)
                self.assertEqual(file.attrs["vocabulary_size"], tokenizer["vocabulary_size"])
                tokens = file["tokens"][:]
                self.assertEqual((tokens.dtype.str, len(tokens)), ("<u2", shard["tokens"]))
                self.assertEqual(len(file["documents"]), shard["documents"])
                self.assertEqual(file["digests"].dtype.str, "<u8")
                starts += shard["documents"]
            characters = tokenizer["characters"] + "\n"  # the end of a document, shown as the blank line it was
            text += "".join(characters[token] for token in tokens)
        self.assertEqual(text, (FIXTURES / "text.txt").read_text(encoding="utf-8"))
        self.assertEqual(starts, text.count("\n\n") + 2, "the border of the splits cuts one document in two")

    @unittest.skipIf(shutil.which("h5dump") is None, "h5dump is not installed")
    def test_h5dump_opens_every_shard(self):
        for shard in shards():
            dump = subprocess.run(["h5dump", "-H", CORPUS / shard["file"]], capture_output=True, text=True, check=True)
            self.assertIn('DATASET "tokens"', dump.stdout)
            self.assertIn(f"( {shard['tokens']} ) / ( {shard['tokens']} )", dump.stdout)


if __name__ == "__main__":
    result = unittest.main(exit=False, verbosity=2).result
    sys.exit(1 if not result.wasSuccessful() else 77 if result.skipped else 0)  # 77: ctest shows the skip
