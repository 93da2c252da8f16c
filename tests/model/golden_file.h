// Reading golden files: id lists of golden.json, tensors of golden.safetensors.
#pragma once
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "checkpoint/weight_source.h"

namespace moestro::tests {

inline std::vector<int32_t> id_list(const json::value& v) {
  std::vector<int32_t> ids;
  for (const json::value& id : v.as_array()) ids.push_back(static_cast<int32_t>(id.as_int64()));
  return ids;
}

// One safetensors file of a directory, under the name that the checkpoint reader looks for.
class OneFile final : public checkpoint::ModelFiles {
 public:
  OneFile(std::unique_ptr<checkpoint::ModelFiles> inner, std::string name)
      : inner_(std::move(inner)), name_(std::move(name)) {}
  std::string location() const override { return inner_->location(); }
  std::vector<std::string> list() const override { return {"model.safetensors"}; }
  bool contains(std::string_view name) const override { return name == "model.safetensors"; }
  Result<std::shared_ptr<const checkpoint::FileBytes>> open(std::string_view name) const override {
    if (!contains(name)) return not_found(std::string(name));
    return inner_->open(name_);
  }

 private:
  std::unique_ptr<checkpoint::ModelFiles> inner_;
  std::string name_;
};

inline Result<std::unique_ptr<checkpoint::WeightSource>> open_tensors(const std::string& directory,
                                                                      const std::string& file) {
  MOESTRO_ASSIGN(auto files, checkpoint::open_model_directory(directory));
  return checkpoint::open_safetensors(std::make_shared<OneFile>(std::move(files), file));
}

// A float32 tensor of any shape; a missing one is a failed CHECK of the test.
inline std::vector<float> float_tensor(const checkpoint::WeightSource& source,
                                       const std::string& name) {
  const checkpoint::TensorInfo* info = source.find(name);
  CHECK(info, name);
  const checkpoint::TensorView t =
      source.get(name, info->shape, std::initializer_list<DType>{DType::kF32}).value();
  std::vector<float> values(static_cast<size_t>(t.num_elements()));
  std::memcpy(values.data(), t.bytes.data(), t.bytes.size());
  return values;
}

}  // namespace moestro::tests
