// Which modules a list of targets or exceptions names. Compiled once when quantization_config is
// read; matching is thread-safe and its time is bounded whatever the patterns are (they come from
// the checkpoint). Rules: reference facts "compressed-tensors: JSON" (target matching); the other
// methods' lists name parts of modules.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace moestro::checkpoint {

enum class EntryRule : uint8_t {
  kNames,  // compressed-tensors: the whole name, the class "Linear", or "re:" and a pattern
           // anchored at the start
  kParts,  // modules_to_not_convert: any run of whole dotted parts ("gate" in "mlp.gate", not in
           // "mlp.gate_proj"); '*' matches anything
};

class EntryList {
 public:
  // A pattern that does not compile, is longer than 4096 bytes, or more than 1024 patterns:
  // kInvalidArgument naming it.
  static Result<EntryList> compile(std::span<const std::string> entries, EntryRule rule);
  EntryList();
  EntryList(EntryList&&) noexcept;
  EntryList& operator=(EntryList&&) noexcept;
  ~EntryList();

  // module: a linear layer's name without ".weight". A pattern that runs into the time limit is
  // reported once and then never matches.
  bool matches(std::string_view module) const;

 private:
  struct Impl;
  std::unique_ptr<const Impl> impl_;
};

// What QuantConfig::match asks: one list a group, and the exceptions.
class ModuleMatcher {
 public:
  ModuleMatcher(std::vector<EntryList> groups, std::vector<EntryList> exceptions)
      : groups_(std::move(groups)), exceptions_(std::move(exceptions)) {}
  // The first group that names the module, or -1 if none does or an exception does.
  int group_of(std::string_view module) const;

 private:
  std::vector<EntryList> groups_, exceptions_;
};

}  // namespace moestro::checkpoint
