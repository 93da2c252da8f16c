// ModelSpec: a model before its weights: made from config.json and the checkpoint's header, shown
// to plan/, then loaded. One subclass a model skeleton (decoder_spec.h); one factory file an
// architecture.
#pragma once
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/model_config.h"
#include "checkpoint/quant_config.h"
#include "checkpoint/weight_source.h"
#include "models/model.h"
#include "models/op_visitor.h"
#include "platform/gang.h"
#include "quant/weight_store.h"

namespace moestro::models {

struct LoadRequest {
  const checkpoint::WeightSource& source;
  std::shared_ptr<quant::WeightStore> store;  // where the weights go, or are; the model keeps it
  platform::Gang& gang;
  // Checkpoint bytes read since the last call, on any thread; may be empty.
  std::function<void(uint64_t)> progress;
};

class ModelSpec {
 public:
  virtual ~ModelSpec() = default;
  virtual void visit(OpVisitor& visitor) = 0;
  virtual std::vector<LayerKvWidths> kv_widths() const = 0;
  virtual const ModelLimits& limits() const = 0;
  virtual int64_t activation_bytes() const = 0;  // transient memory of a step beside kernel scratch
  // Reads and packs the weights. Every op has its kernel by now.
  virtual Result<std::unique_ptr<Model>> load(const LoadRequest& request) const = 0;
};

struct SpecRequest {
  const checkpoint::ModelConfig& config;
  const checkpoint::QuantConfig& quant;
  const checkpoint::WeightSource& source;  // its header is read, weights are not
  DType compute = DType::kBF16;            // kBF16 or kF32
  DType kv_dtype = DType::kBF16;           // kBF16 or kF32
  ModelLimits limits;
};

// Finds the family by config.model_type. Unknown: kUnsupported that lists the families.
Result<std::unique_ptr<ModelSpec>> make_model_spec(const SpecRequest& request);
std::vector<std::string_view> model_families();

// What load() would place, in its order; reads no weights.
Result<std::vector<quant::ListedWeight>> list_weights(const ModelSpec& spec,
                                                      const checkpoint::WeightSource& source);

}  // namespace moestro::models
