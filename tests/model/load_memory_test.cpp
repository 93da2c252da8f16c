// Loading streams: the most anonymous memory that it takes, measured while a checkpoint of 130 MiB
// loads whose matrices all run in floats, is what stays plus 5 % plus one layer; and the weights
// are the same from a packed cache, bit by bit.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <random>
#include <thread>

#include "base/format.h"
#include "checkpoint/safetensors_writer.h"
#include "checkpoint/test_files.h"
#include "model/spec_fixture.h"
#include "models/model_spec.h"
#include "plan/plan.h"
#include "quant/packed_cache.h"

namespace moestro::tests {
namespace {

constexpr int64_t kVocab = 65536, kHidden = 512, kIntermediate = 1536, kLayers = 8;
constexpr const char* kConfig = R"({
  "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "bfloat16",
  "vocab_size": 65536, "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8,
  "num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 64, "rms_norm_eps": 1e-6,
  "max_position_embeddings": 1024, "rope_theta": 10000.0, "hidden_act": "silu",
  "tie_word_embeddings": false,
  "quantization_config": {"quant_method": "compressed-tensors", "format": "int-quantized",
    "ignore": [], "config_groups": {"group_0": {"targets": ["Linear"],
      "weights": {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": false},
      "input_activations": null}}}})";

using Tensors = std::vector<checkpoint::OutputTensor>;

void add_linear(Tensors& out, const std::string& module, int64_t n, int64_t k) {
  out.push_back({module + ".weight", DType::kI8, {n, k}});
  out.push_back({module + ".weight_scale", DType::kBF16, {n, 1}});
  out.push_back({module + ".weight_zero_point", DType::kI8, {n, 1}});
}

Tensors tensors() {
  Tensors t{{"model.embed_tokens.weight", DType::kBF16, {kVocab, kHidden}},
            {"model.norm.weight", DType::kBF16, {kHidden}}};
  for (int64_t l = 0; l < kLayers; ++l) {
    const std::string p = format("model.layers.{}.", l);
    for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"})
      add_linear(t, p + "self_attn." + name, kHidden, kHidden);
    add_linear(t, p + "mlp.gate_proj", kIntermediate, kHidden);
    add_linear(t, p + "mlp.up_proj", kIntermediate, kHidden);
    add_linear(t, p + "mlp.down_proj", kHidden, kIntermediate);
    t.push_back({p + "input_layernorm.weight", DType::kBF16, {kHidden}});
    t.push_back({p + "post_attention_layernorm.weight", DType::kBF16, {kHidden}});
  }
  add_linear(t, "lm_head", kVocab, kHidden);
  return t;
}

void write_checkpoint(const checkpoint::testing::TempDir& directory) {
  directory.write("config.json", kConfig);
  auto file = checkpoint::SafetensorsWriter::create(
                  (directory.path() / "model.safetensors").native(), tensors())
                  .value();
  std::mt19937 rng(1);
  for (const checkpoint::OutputTensor& t : tensors()) {
    std::vector<std::byte> bytes(t.bytes());
    if (t.dtype == DType::kBF16) {  // small floats
      for (size_t i = 0; i < bytes.size(); i += 2) {
        const auto v = static_cast<uint16_t>(0x3c00 + (rng() & 0x7f));
        std::memcpy(&bytes[i], &v, sizeof v);
      }
    } else {
      for (std::byte& b : bytes) b = static_cast<std::byte>(rng());
    }
    ASSERT_TRUE(file->append(bytes).ok());
  }
  ASSERT_TRUE(file->finish().ok());
}

int64_t anonymous_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("RssAnon:")) return std::stoll(line.substr(8)) << 10;
  return -1;
}

// The most while it lives, looked at every millisecond, beyond what there was.
class AnonymousPeak {
 public:
  AnonymousPeak() : watcher_([this] { watch(); }) {}
  ~AnonymousPeak() { stop(); }
  int64_t stop() {
    done_ = true;
    if (watcher_.joinable()) watcher_.join();
    return peak_ - before_;
  }

 private:
  void watch() {
    while (!done_) {
      peak_ = std::max(peak_, anonymous_bytes());
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    peak_ = std::max(peak_, anonymous_bytes());
  }
  const int64_t before_ = anonymous_bytes();
  int64_t peak_ = before_;
  std::atomic<bool> done_{false};
  std::thread watcher_;
};

class LoadMemory : public SpecFixture {
 protected:
  void SetUp() override {
    write_checkpoint(directory_);
    open(directory_.open(), {.max_tokens = 8, .max_logits_rows = 1, .max_context = 64});
    const auto plan = plan::make_plan(*spec_, {.isa = platform::detect_isa(), .num_workers = 2});
    ASSERT_TRUE(plan.ok()) << plan.status().message();
    weights_ = models::list_weights(*spec_, *source_).value();
    for (const quant::ListedWeight& w : weights_) resident_ += static_cast<int64_t>(w.bytes);
  }
  Status load(std::shared_ptr<quant::WeightStore> store) {
    return spec_
        ->load({.source = *source_, .store = std::move(store), .gang = gang_, .progress = {}})
        .status();
  }

  const checkpoint::testing::TempDir directory_;
  std::vector<quant::ListedWeight> weights_;
  int64_t resident_ = 0;
  platform::Gang gang_{2, false};
};

// Keeps the bytes it hands out beside their names.
class NamedArena final : public quant::WeightStore {
 public:
  Result<Place> place(std::string_view name, std::string_view contents, size_t bytes) override {
    MOESTRO_ASSIGN(const Place place, arena_.place(name, contents, bytes));
    const std::scoped_lock lock(mutex_);
    bytes_.emplace_back(std::string(name), std::span(place.data, bytes));
    contents_.emplace_back(contents);
    return place;
  }
  void expect_equal(quant::WeightStore& other) const {
    for (size_t i = 0; i < bytes_.size(); ++i) {
      const auto& [name, bytes] = bytes_[i];
      const Place place = other.place(name, contents_[i], bytes.size()).value();
      EXPECT_EQ(std::memcmp(place.data, bytes.data(), bytes.size()), 0) << name;
    }
  }

 private:
  std::mutex mutex_;
  quant::WeightArena arena_;
  std::vector<std::pair<std::string, std::span<const std::byte>>> bytes_;
  std::vector<std::string> contents_;
};

TEST_F(LoadMemory, PeakIsWhatStaysAndALayer) {
  ASSERT_GT(resident_, int64_t{110} << 20);
  const int64_t layer = (4 * kHidden + 3 * kIntermediate) * kHidden * 2;
  int64_t peak = 0;
  {
    AnonymousPeak watch;
    ASSERT_TRUE(load(std::make_shared<quant::WeightArena>()).ok());
    peak = watch.stop();
  }
  std::printf("resident %.1f MiB, peak %.1f MiB, a layer %.1f MiB\n",
              static_cast<double>(resident_) / (1 << 20), static_cast<double>(peak) / (1 << 20),
              static_cast<double>(layer) / (1 << 20));
  EXPECT_GE(peak, resident_ * 9 / 10) << "it must have been watched";
  EXPECT_LE(peak, resident_ + resident_ / 20 + layer);
}

TEST_F(LoadMemory, PackedCacheHasTheSameBytesAndTakesNoMemory) {
  const auto arena = std::make_shared<NamedArena>();
  ASSERT_TRUE(load(arena).ok());
  const std::string path = (directory_.path() / "m.packed").native();
  const quant::PackedCacheKey key{source_->identity(), weights_};
  {
    AnonymousPeak watch;
    const auto writer = quant::PackedCacheWriter::create(path, key).value();
    ASSERT_TRUE(load(writer).ok());
    ASSERT_TRUE(writer->finish(gang_, {}).ok());
    EXPECT_LE(watch.stop(), int64_t{16} << 20);
  }
  const auto cache = quant::PackedCache::open(path, key).value();
  AnonymousPeak watch;
  cache->populate(gang_, {});
  ASSERT_TRUE(load(cache).ok());
  EXPECT_LE(watch.stop(), int64_t{16} << 20);
  arena->expect_equal(*cache);
  EXPECT_TRUE(cache->verify(gang_, {}).ok());
}

}  // namespace
}  // namespace moestro::tests
