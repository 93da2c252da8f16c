// How plan/ sees a model before any weight is read: ModelSpec::visit shows every place where a
// kernel runs, with its shape; the visitor fills in the kernel. The same walk later sizes scratch
// and counts bytes.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/op_choice.h"
#include "moe/dispatch/dispatch.h"

namespace moestro::models {

// A module of a linear place.
struct OpModule {
  std::string name;  // "q_b_proj"
  int32_t n = 0;     // output channels
  int64_t weight_bytes = 0;
};

// One place of the model, the same in every layer of a kind.
struct OpSite {
  std::string
      part;  // "attention", "dense mlp", "experts", "shared expert", "router", "head", "rows"
  std::string name;                  // "q_a_proj + kv_a_proj_with_mqa"
  int32_t layer = -1;                // -1: outside the layers
  std::string scheme;                // quant method, "" when no weight
  std::string weights, activations;  // of the scheme, in words
  int64_t weight_bytes = 0;          // packed, resident
  // What its modules do otherwise than the checkpoint says (quant::ModuleSpec::substitution), each
  // text once.
  std::vector<std::string> substitutions = {};
  std::vector<OpModule> modules = {};  // of a linear place, in the order of its outputs
};

class OpVisitor {
 public:
  virtual ~OpVisitor() = default;
  virtual void visit(const OpSite& site, kernels::LinearChoice& op) = 0;
  virtual void visit(const OpSite& site, kernels::HeadLinearChoice& op) = 0;
  virtual void visit(const OpSite& site, kernels::ExpertMlpChoice& op) = 0;
  virtual void visit(const OpSite& site, kernels::GqaChoice& op) = 0;
  virtual void visit(const OpSite& site, kernels::MlaChoice& op) = 0;
  virtual void visit(const OpSite& site, kernels::SparseIndexChoice& op) = 0;
  virtual void visit(const OpSite& site, kernels::RowOpsChoice& ops) = 0;
  virtual void visit(const OpSite& site, moe::DispatchChoice& dispatch) = 0;
};

}  // namespace moestro::models
