// A model as far as its spec, before any weight is read: what tests of plans, of measuring and of
// loading start from.
#pragma once
#include <gtest/gtest.h>

#include <memory>

#include "checkpoint/model_files.h"
#include "checkpoint/quant_config.h"
#include "checkpoint/weight_source.h"
#include "models/model_spec.h"

namespace moestro::tests {

class SpecFixture : public testing::Test {
 protected:
  void open(std::shared_ptr<const checkpoint::ModelFiles> files,
            const models::ModelLimits& limits) {
    files_ = std::move(files);
    config_ = checkpoint::read_model_config(*files_, {}).value();
    quant_ = checkpoint::read_quant_config(*files_, config_.raw).value();
    source_ = checkpoint::open_safetensors(files_).value();
    spec_ = models::make_model_spec(
                {.config = config_, .quant = quant_, .source = *source_, .limits = limits})
                .value();
  }

  std::shared_ptr<const checkpoint::ModelFiles> files_;
  checkpoint::ModelConfig config_;
  checkpoint::QuantConfig quant_;
  std::unique_ptr<checkpoint::WeightSource> source_;
  std::unique_ptr<models::ModelSpec> spec_;
};

}  // namespace moestro::tests
