#include "trainer/train/synthetic_split.h"

#include <algorithm>
#include <random>
#include <vector>

#include "dataio/shard.h"

namespace sluice::train {

SyntheticSplit::SyntheticSplit(std::int64_t tokens, std::int64_t vocabulary_size) {
  const std::filesystem::path file = directory_.path() / "train-00000.h5";
  dataio::ShardWriter writer(file, tokens, vocabulary_size);
  writer.begin_document();
  std::mt19937 engine(1);  // its sequence is the same everywhere, a distribution's is not
  std::vector<std::int32_t> block;
  for (std::int64_t done = 0; done < tokens; done += static_cast<std::int64_t>(block.size())) {
    block.resize(static_cast<std::size_t>(std::min<std::int64_t>(tokens - done, 1 << 16)));
    for (auto& id : block)
      id = static_cast<std::int32_t>(engine() % static_cast<std::uint64_t>(vocabulary_size));
    writer.append(block);
  }
  writer.close();
  layout_ = {.name = "train", .shards = {dataio::open_shard(file)}, .tokens = tokens, .documents = 1};
}

}  // namespace sluice::train
