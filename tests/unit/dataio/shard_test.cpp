#include "dataio/shard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hdf5.h>
#include <sys/resource.h>
#include <xxhash.h>

#include <csignal>
#include <fstream>
#include <iterator>

#include "dataio/error.h"
#include "tests/unit/dataio/corpus_fixture.h"

namespace sluice::dataio::testing {
namespace {

using ::testing::HasSubstr;

std::vector<char> bytes_of(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// What opening `file` complains of; empty if it opens.
std::string fault_of_shard(const std::filesystem::path& file) {
  try {
    (void)open_shard(file);
    return "";
  } catch (const DataError& error) {
    EXPECT_EQ(error.file(), file);
    EXPECT_THAT(error.what(), HasSubstr(file.string()));
    return error.what();
  }
}

/// Changes a whole shard through HDF5 itself, as a foreign program would.
template <typename Change>
void change(const std::filesystem::path& file, Change what) {
  const hid_t id = H5Fopen(file.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
  ASSERT_GE(id, 0);
  what(id);
  H5Fclose(id);
}

void replace_dataset(hid_t file, const char* name, hid_t type, hsize_t count, hsize_t chunk) {
  H5Ldelete(file, name, H5P_DEFAULT);
  const hid_t space = H5Screate_simple(1, &count, nullptr);
  const hid_t list = H5Pcreate(H5P_DATASET_CREATE);
  if (chunk > 0) H5Pset_chunk(list, 1, &chunk);
  H5Dclose(H5Dcreate2(file, name, type, space, H5P_DEFAULT, list, H5P_DEFAULT));
  H5Pclose(list);
  H5Sclose(space);
}

void write_attribute(hid_t file, const char* name, std::int64_t value) {
  const hid_t attribute = H5Aopen(file, name, H5P_DEFAULT);
  H5Awrite(attribute, H5T_NATIVE_INT64, &value);
  H5Aclose(attribute);
}

TEST(Shard, TokensLieInTheFileWhereTheLayoutSays) {
  for (const std::int64_t vocabulary : {257, 65536, 65537, 100000}) {
    const Scratch dir;
    const auto file = dir.path() / "a.h5";
    const std::int64_t count = 600'000;  // more than one MiB of uint16, and no multiple of a block
    const auto summary = write_shard(file, 7, count, vocabulary);
    const auto layout = open_shard(file);
    const std::int64_t width = vocabulary <= 65536 ? 2 : 4;
    EXPECT_EQ(layout.tokens, count);
    EXPECT_EQ(layout.element_bytes, width);
    EXPECT_EQ(layout.documents, 1);
    EXPECT_EQ(layout.vocabulary_size, vocabulary);
    const auto bytes = bytes_of(file);
    const auto* data = reinterpret_cast<const unsigned char*>(bytes.data()) + layout.data_offset;
    ASSERT_LE(static_cast<std::size_t>(layout.data_offset + count * width), bytes.size());
    for (std::int64_t k = 0; k < count; ++k) {
      std::int64_t value = 0;
      for (std::int64_t b = width; b-- > 0;) value = value * 256 + data[k * width + b];
      ASSERT_EQ(value, token_at(7 + k, vocabulary)) << k;
    }
    EXPECT_EQ(summary.digest, XXH3_64bits(data, static_cast<std::size_t>(count * width)));
    ASSERT_EQ(std::ssize(layout.block_digests), (count * width + kDigestBlockBytes - 1) / kDigestBlockBytes);
    for (std::int64_t b = 0; b < std::ssize(layout.block_digests); ++b) {
      const auto size = std::min(kDigestBlockBytes, count * width - b * kDigestBlockBytes);
      EXPECT_EQ(layout.block_digests[static_cast<std::size_t>(b)],
                XXH3_64bits(data + b * kDigestBlockBytes, static_cast<std::size_t>(size)));
    }
  }
}

TEST(Shard, AnotherProgramReadsItThroughHdf5) {
  const Scratch dir;
  const auto file = dir.path() / "a.h5";
  write_shard(file, 0, 1000, 300);
  const hid_t id = H5Fopen(file.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  const hid_t data = H5Dopen2(id, "/tokens", H5P_DEFAULT);
  std::vector<std::int32_t> tokens(1000);
  EXPECT_GE(H5Dread(data, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, tokens.data()), 0);
  EXPECT_EQ(tokens, tokens_from(0, 1000, 300));
  H5Dclose(data);
  H5Fclose(id);
}

TEST(Shard, EqualContentGivesEqualFilesHoweverItIsAppended) {
  const Scratch dir;
  write_shard(dir.path() / "a.h5", 0, 5000, 300);
  {
    ShardWriter writer(dir.path() / "b.h5", 5000, 300);
    writer.begin_document();
    for (std::int64_t k = 0; k < 5000; k += 50) writer.append(tokens_from(k, 50, 300));
    writer.close();
  }
  EXPECT_EQ(bytes_of(dir.path() / "a.h5"), bytes_of(dir.path() / "b.h5"));
}

TEST(Shard, DocumentStartsAreKept) {
  const Scratch dir;
  ShardWriter writer(dir.path() / "a.h5", 10, 300);
  writer.append(tokens_from(0, 3, 300));
  writer.begin_document();
  writer.append(tokens_from(3, 6, 300));
  writer.begin_document();
  writer.append(tokens_from(9, 1, 300));
  EXPECT_EQ(writer.close().documents, 2);
  EXPECT_EQ(read_document_offsets(dir.path() / "a.h5"), (std::vector<std::int64_t>{3, 9}));
}

TEST(Shard, NoTokensAndNoDocumentsIsAWholeShard) {
  const Scratch dir;
  ShardWriter(dir.path() / "a.h5", 0, 300).close();
  const auto layout = open_shard(dir.path() / "a.h5");
  EXPECT_EQ(layout.tokens, 0);
  EXPECT_TRUE(layout.block_digests.empty());
  EXPECT_TRUE(read_document_offsets(dir.path() / "a.h5").empty());
}

TEST(ShardWriter, RefusesWhatItCannotStore) {
  const Scratch dir;
  ShardWriter writer(dir.path() / "a.h5", 4, 300);
  EXPECT_THROW(writer.append(std::vector<std::int32_t>(5, 0)), std::invalid_argument);
  EXPECT_THROW(writer.append(std::vector<std::int32_t>{300}), DataError);
  EXPECT_THROW(writer.append(std::vector<std::int32_t>{-1}), DataError);
  EXPECT_THROW(writer.close(), std::invalid_argument);
  EXPECT_THROW(ShardWriter(dir.path() / "a.h5", 4, 300), DataError) << "a file that exists";
  EXPECT_THROW(ShardWriter(dir.path() / "none" / "a.h5", 4, 300), DataError) << "a folder that does not";
}

TEST(ShardWriter, WithoutCloseNothingOpens) {
  const Scratch dir;
  const auto file = dir.path() / "a.h5";
  {
    ShardWriter writer(file, 1000, 300);
    writer.append(tokens_from(0, 1000, 300));
  }
  EXPECT_THAT(fault_of_shard(file), HasSubstr("writing was not finished"));
}

TEST(ShardWriter, NoRoomIsFoundBeforeAnythingIsWritten) {
  // A limit on the size of files stands for a full disk: both fail in the same calls.
  const Scratch dir;
  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{1 << 20, old.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  std::string fault;
  try {
    ShardWriter writer(dir.path() / "a.h5", 10'000'000, 300);
  } catch (const DataError& error) {
    fault = error.what();
  }
  setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  EXPECT_THAT(fault, HasSubstr("a.h5"));
  EXPECT_THAT(fault, HasSubstr("File too large"));
  EXPECT_NE(fault_of_shard(dir.path() / "a.h5"), "");
}

TEST(ShardFaults, EachIsNamed) {
  const Scratch dir;
  const auto file = dir.path() / "a.h5";
  const auto fresh = [&] {
    std::filesystem::remove(file);
    write_shard(file, 0, 5000, 300);
  };

  EXPECT_THAT(fault_of_shard(dir.path() / "none.h5"), HasSubstr("No such file"));
  EXPECT_NE(fault_of_shard(dir.path()), "");

  std::ofstream(file) << "this is a text file of some length";
  EXPECT_THAT(fault_of_shard(file), HasSubstr("wrong magic"));
  std::ofstream(file).close();
  EXPECT_THAT(fault_of_shard(file), HasSubstr("truncated"));

  for (const std::uintmax_t size : {9U, 100U, 3000U, 10'000U}) {
    fresh();
    ASSERT_LT(size, std::filesystem::file_size(file));
    std::filesystem::resize_file(file, size);
    EXPECT_NE(fault_of_shard(file), "") << size;
  }
  fresh();
  std::filesystem::resize_file(file, std::filesystem::file_size(file) - 1);
  EXPECT_THAT(fault_of_shard(file), HasSubstr("truncated"));

  fresh();
  change(file, [](hid_t id) { write_attribute(id, "version", kFormatVersion + 1); });
  EXPECT_THAT(fault_of_shard(file), HasSubstr("format version 2, this program reads 1 to 1"));
  fresh();
  change(file, [](hid_t id) { H5Adelete(id, "version"); });
  EXPECT_THAT(fault_of_shard(file), HasSubstr("version"));
  fresh();
  change(file, [](hid_t id) { write_attribute(id, "vocabulary_size", 0); });
  EXPECT_THAT(fault_of_shard(file), HasSubstr("vocabulary_size"));
}

TEST(ShardFaults, StorageThatPreadCannotServeIsRefused) {
  const Scratch dir;
  const auto file = dir.path() / "a.h5";
  const auto with_tokens = [&](hid_t type, hsize_t count, hsize_t chunk) {
    std::filesystem::remove(file);
    write_shard(file, 0, 5000, 300);
    change(file, [&](hid_t id) { replace_dataset(id, "tokens", type, count, chunk); });
    return fault_of_shard(file);
  };
  EXPECT_THAT(with_tokens(H5T_STD_U16BE, 5000, 0), HasSubstr("16-bit unsigned integer, big endian"));
  EXPECT_THAT(with_tokens(H5T_STD_I16LE, 5000, 0), HasSubstr("16-bit signed integer"));
  EXPECT_THAT(with_tokens(H5T_STD_U32LE, 5000, 0), HasSubstr("32-bit unsigned integer"));
  EXPECT_THAT(with_tokens(H5T_IEEE_F32LE, 5000, 0), HasSubstr("float"));
  EXPECT_THAT(with_tokens(H5T_STD_U16LE, 5000, 100), HasSubstr("contiguous"));
  EXPECT_THAT(with_tokens(H5T_STD_U16LE, 5000, 0), HasSubstr("no storage")) << "never written";
  std::filesystem::remove(file);
  write_shard(file, 0, 5000, 300);
  change(file, [](hid_t id) { replace_dataset(id, "digests", H5T_STD_U64LE, 2, 0); });
  EXPECT_THAT(fault_of_shard(file), HasSubstr("2 digests"));
}

}  // namespace
}  // namespace sluice::dataio::testing
