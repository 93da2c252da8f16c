#include "app/packed_weights.h"

#include <filesystem>

#include "app/model_host.h"
#include "base/digest.h"
#include "base/format.h"
#include "base/log.h"
#include "base/strings.h"
#include "plan/kernel_table_file.h"

namespace moestro::app {
namespace {

// Files beside config.json that say how tensors are to be read.
constexpr std::string_view kQuantFiles[] = {"hf_quant_config.json", "quant_model_description.json"};

}  // namespace

Result<quant::PackedCacheKey> packed_cache_key(const PlannedModel& planned) {
  const OpenModel& model = planned.model;
  std::string identity = model.weights->identity();
  if (identity.empty())
    return unsupported(model.is_built_in ? "the built-in model is part of the program"
                                         : "made-up weights are not kept");
  identity += json::dump(model.config.raw);
  for (const std::string_view name : kQuantFiles)
    if (model.files->contains(name)) {
      MOESTRO_ASSIGN(const auto file, model.files->open(name));
      identity += file->text();
    }
  quant::PackedCacheKey key;
  key.checkpoint = hex(fnv1a(identity));
  MOESTRO_ASSIGN(key.weights, models::list_weights(*planned.spec, *model.weights));
  return key;
}

Result<std::string> packed_cache_path(const config::Options& options, const PlannedModel& planned,
                                      const quant::PackedCacheKey& key) {
  std::string directory = options.model.packed_cache;
  if (directory == "none") return invalid_argument("--packed-cache none");
  if (directory == "auto") directory = plan::user_cache_directory();
  if (directory.empty())
    return unsupported("this user has no home directory; --packed-cache DIR names a place");
  std::error_code error;
  const std::string& given = planned.model.files->location();
  const std::filesystem::path real = std::filesystem::canonical(given, error);
  return format("{}/{}-{}.packed", directory, planned.model.name,
                hex(fnv1a(error ? given : real.native(), key.layout_digest())));
}

PackedWeights find_packed_weights(const config::Options& options, const PlannedModel& planned) {
  PackedWeights packed;
  const auto without = [&](const Status& status) {
    packed.why_not = status.message();
    return packed;
  };
  if (options.model.packed_cache == "none") return without(invalid_argument("--packed-cache none"));
  const Result<quant::PackedCacheKey> key = packed_cache_key(planned);
  if (!key.ok()) return without(key.status());
  Result<std::string> path = packed_cache_path(options, planned, *key);
  if (!path.ok()) return without(path.status());
  packed.path = std::move(*path);
  auto cache = quant::PackedCache::open(packed.path, *key);
  if (cache.ok()) {
    packed.cache = std::move(*cache);
    return packed;
  }
  std::error_code error;
  packed.is_warning = std::filesystem::exists(packed.path, error);
  if (packed.is_warning) return without(cache.status());
  packed.why_not = format("no {}", packed.path);
  return packed;
}

void log_packed_weights(const PackedWeights& packed) {
  if (packed.cache) log_info("weights from the packed cache {}", packed.path);
  if (packed.is_warning)
    log_warning(
        "packed cache {}; weights are read from the checkpoint; moestro repack writes it "
        "anew",
        packed.why_not);
}

std::string packed_text(const PackedWeights& packed) {
  if (packed.cache)
    return format("weights come packed from {} ({})", packed.path,
                  human_bytes(packed.cache->file_bytes()));
  if (packed.path.empty()) return format("no cache of packed weights: {}", packed.why_not);
  return format(
      "{}; weights are read from the checkpoint and packed; moestro repack writes a file "
      "that the next start maps",
      packed.why_not);
}

Result<std::shared_ptr<quant::WeightStore>> open_store(const config::Options& options,
                                                       const PackedWeights& packed,
                                                       platform::Gang& gang,
                                                       const quant::ByteProgress& progress) {
  if (!packed.cache)
    return std::shared_ptr<quant::WeightStore>(std::make_shared<quant::WeightArena>());
  if (options.model.packed_cache_mode == "copy")
    MOESTRO_TRY(packed.cache->copy_to_memory(gang, progress));
  else
    packed.cache->populate(gang, progress);
  return std::shared_ptr<quant::WeightStore>(packed.cache);
}

}  // namespace moestro::app
