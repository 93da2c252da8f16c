// A WeightSource made of vectors, for the tests of quant/ only.
#pragma once
#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "base/format.h"
#include "checkpoint/weight_source.h"

namespace moestro::quant {

class FakeWeights final : public checkpoint::WeightSource {
 public:
  using WeightSource::get;
  template <class T>
  void add(const std::string& name, DType dtype, std::vector<int64_t> shape,
           const std::vector<T>& values) {
    Entry& e = entries_[name];
    e.bytes.resize(values.size() * sizeof(T));
    std::memcpy(e.bytes.data(), values.data(), e.bytes.size());
    e.info = {.dtype = dtype, .shape = std::move(shape), .bytes = e.bytes.size()};
  }
  bool has(std::string_view name) const override { return entries_.contains(std::string(name)); }
  const checkpoint::TensorInfo* find(std::string_view name) const override {
    const auto it = entries_.find(std::string(name));
    return it == entries_.end() ? nullptr : &it->second.info;
  }
  std::vector<std::string> names() const override {
    std::vector<std::string> all;
    for (const auto& [name, entry] : entries_) all.push_back(name);
    return all;
  }
  Result<checkpoint::TensorView> get(std::string_view name, std::span<const int64_t> shape,
                                     std::span<const DType> accepted) const override {
    const auto it = entries_.find(std::string(name));
    if (it == entries_.end()) return data_loss(format("no tensor {}", name));
    const checkpoint::TensorInfo& info = it->second.info;
    if (!fits(info.shape, shape)) return data_loss(format("{}: wrong shape", name));
    if (std::find(accepted.begin(), accepted.end(), info.dtype) == accepted.end())
      return data_loss(format("{}: wrong type", name));
    return checkpoint::TensorView{
        .dtype = info.dtype, .shape = info.shape, .bytes = it->second.bytes, .owner = {}};
  }
  void drop(const checkpoint::TensorView&) const override {}
  uint64_t total_bytes() const override { return 0; }

  void remove(const std::string& name) { entries_.erase(name); }

 private:
  static bool fits(std::span<const int64_t> found, std::span<const int64_t> wanted) {
    return std::equal(found.begin(), found.end(), wanted.begin(), wanted.end(),
                      [](int64_t f, int64_t w) { return w < 0 || f == w; });
  }
  struct Entry {
    checkpoint::TensorInfo info;
    std::vector<std::byte> bytes;
  };
  std::map<std::string, Entry> entries_;
};

}  // namespace moestro::quant
